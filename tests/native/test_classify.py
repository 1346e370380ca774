"""`classify` with a real server: every kind of picture, every way to name them, every form of answer."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image
from support.digits import VENVS, Digits
from support.pictures import BLUE, GREEN, RED, photograph, plain, write_colours, write_strange
from support.stack import PACKAGES, ROOT, Stack
from triton_stack_client.classify import pictures

from models_volume.preprocessing import MODES, Preprocessing


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`colours` takes raw pixels, `prepared` wants them prepared by the client."""
    folder = tmp_path_factory.mktemp("served")
    stack = Stack(folder / "models")
    stack.up(
        write_colours(folder / "colours"),
        write_colours(folder / "prepared", name="prepared", client_preprocessing="caffe"),
    )
    yield stack
    stack.stop()


def classify(
    stack: Stack, *args: str | Path, code: int = 0, stdin: bytes = b"", cwd: Path = ROOT
) -> tuple[str, str]:
    done = subprocess.run(
        [str(ROOT / "scripts" / "classify"), *map(str, args)],
        env=stack.env,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, out + err
    assert "Traceback" not in err
    return out, err


def results(text: str) -> dict[str, dict[str, Any]]:
    data: dict[str, Any] = json.loads(text)
    return {Path(r["file"]).name: r for r in data["results"]}


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("strange")
    return folder, write_strange(folder)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_every_kind_of_picture(served: Stack, strange: tuple[Path, dict[str, str]], protocol: str) -> None:
    folder, wanted = strange
    out, err = classify(
        served, folder, "--model", "colours", "--protocol", protocol, "--json", "--top", "1", code=1
    )
    found = results(out)
    assert list(found) == sorted(wanted)
    for name, shows in wanted.items():
        if shows in ("red", "green", "blue"):
            assert found[name]["top"][0]["label"] == shows, name
        else:
            assert shows in found[name]["error"], name
            assert name in err
    failures = [n for n, r in found.items() if "error" in r]
    assert sorted(failures) == ["bomb.png", "damaged.jpg", "empty.png", "text.jpg"]


def test_preprocessing_and_resize_are_keras_s(tmp_path: Path) -> None:
    files = []
    for n, (width, height) in enumerate(
        [(500, 375), (375, 500), (333, 517), (1000, 224), (64, 48), (224, 224)]
    ):
        for suffix in ("jpg", "png"):
            files.append(tmp_path / f"{n}.{suffix}")
            photograph(width, height, n).save(files[-1])
    # Keras decodes with Pillow, which its environment lacks: lend it ours, the very same decoder.
    lent = tmp_path / "lent"
    lent.mkdir()
    site = Path(PIL.__file__).parents[1]
    for name in ("PIL", "pillow.libs"):
        (lent / name).symlink_to(site / name)
    done = subprocess.run(
        [
            VENVS / "builder/bin/python3",
            ROOT / "tests/support/keras_pixels.py",
            tmp_path / "keras.npz",
            "224",
            "224",
            *files,
        ],
        env={**os.environ, "PYTHONPATH": str(lent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "keras.npz") as keras:
        for file in files:
            pixels = pictures.load(file, 224, 224, 3)
            np.testing.assert_allclose(pixels, keras[f"pixels/{file.name}"], atol=1e-3)
            for mode in ("caffe", "torch", "tf"):
                ours = Preprocessing.of(MODES[mode].as_json()).apply(pixels)
                np.testing.assert_allclose(ours, keras[f"{mode}/{file.name}"], atol=1e-3)


def test_the_client_prepares_pixels_where_the_release_says_so(served: Stack, tmp_path: Path) -> None:
    plain(50, 40, RED).save(tmp_path / "red.png")
    out, _ = classify(served, tmp_path / "red.png", "--model", "prepared", "--json", "--top", "3")
    scores = {t["class"]: t["score"] for t in results(out)["red.png"]["top"]}
    # Caffe's BGR: what the model sees in its first channel is blue.
    wanted = [RED[2] - 103.939, RED[1] - 116.779, RED[0] - 123.68]
    np.testing.assert_allclose([scores[n] for n in range(3)], wanted, atol=0.1)


def test_the_digits_have_keras_s_accuracy(stack: Stack, digits: Digits, tmp_path: Path) -> None:
    stack.up(digits.spec)
    folder = tmp_path / "pngs"
    folder.mkdir()
    for n, image in enumerate(digits.images):
        Image.fromarray(image[..., 0]).save(folder / f"{n:03}.png")
    out, err = classify(stack, folder, "--json", "--top", "1")  # the only live model: no --model needed
    data = json.loads(out)
    assert data["untrained"] is False
    assert "WARNING" not in err
    picked = [r["top"][0]["class"] for r in data["results"]]
    assert len(picked) == 360
    assert float((np.array(picked) == digits.labels).mean()) == digits.keras_accuracy
    assert [r["top"][0]["label"] for r in data["results"]] == [f"digit {n}" for n in picked]


def test_files_folders_patterns_and_standard_input_keep_their_order(served: Stack, tmp_path: Path) -> None:
    inner = tmp_path / "folder" / "inner"
    inner.mkdir(parents=True)
    plain(40, 40, GREEN).save(inner / "b.PNG")
    plain(40, 40, RED).save(inner / "a.jpg")
    (inner / "notes.txt").write_text("not looked at")
    plain(40, 40, BLUE).save(tmp_path / "x1.webp", lossless=True)
    plain(40, 40, RED).save(tmp_path / "x2.webp", lossless=True)
    buffer = io.BytesIO()
    plain(40, 40, GREEN).save(buffer, "PNG")
    out, err = classify(
        served, "x*.webp", "-", "folder", "none.jpg", "--model", "colours", "--csv", "--top", "2",
        code=1, stdin=buffer.getvalue(), cwd=tmp_path,
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(out)))
    best = [(r["file"], r["label"]) for r in rows if r["rank"] == "1"]
    assert best == [
        ("x1.webp", "blue"),
        ("x2.webp", "red"),
        ("standard input", "green"),
        ("folder/inner/a.jpg", "red"),
        ("folder/inner/b.PNG", "green"),
    ]
    assert rows[-1]["file"] == "none.jpg"
    assert rows[-1]["error"] == "there is no such file"
    assert "none.jpg: there is no such file" in err
    assert "note: 1 file is skipped (folder/inner/notes.txt)" in err


def test_more_labels_than_classes_are_all_the_classes(served: Stack, tmp_path: Path) -> None:
    plain(40, 40, GREEN).save(tmp_path / "green.png")
    out, err = classify(served, tmp_path / "green.png", "--model", "colours", "--top", "9999")
    assert len(out.splitlines()) == 1 + 3
    assert "note: --top 9999: colours has 3 classes, and all of them are named" in err


def test_order_is_kept_whatever_the_batches(served: Stack, tmp_path: Path) -> None:
    colours = {"red": RED, "green": GREEN, "blue": BLUE}
    names = [list(colours)[n * n % 3] for n in range(50)]
    for n, name in enumerate(names):
        plain(33 + n, 40, colours[name]).save(tmp_path / f"{n:02}.png")
    for batch, concurrency in ((1, 8), (7, 3), (16, 1)):
        out, _ = classify(
            served,
            tmp_path,
            "--model",
            "colours",
            "--top",
            "1",
            "--batch",
            str(batch),
            "--concurrency",
            str(concurrency),
        )
        assert [line.split()[-1] for line in out.splitlines()] == names


def test_without_the_models_volume_labels_come_from_the_server(served: Stack, tmp_path: Path) -> None:
    plain(40, 40, GREEN).save(tmp_path / "green.png")
    for url in (f"grpc://127.0.0.1:{served.grpc}", f"http://127.0.0.1:{served.http}"):
        out, err = classify(served, tmp_path / "green.png", "--model", "colours", "--url", url, "--top", "1")
        assert out.endswith("green\n"), err
    _, err = classify(served, tmp_path / "green.png", "--model", "prepared", "--url", url, code=1)
    assert "takes pixels: FP16 [n, 32, 32, 3]: how pixels become that is not known to the server" in err
    assert "--models-dir" in err
    classify(
        served, tmp_path / "green.png", "--model", "prepared", "--url", url, "--models-dir", served.models_dir
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "colour"], 'there is no model "colour"\n  expected: one of: colours, prepared'),
        ([], "2 models are live and none was named"),
        (["--model", "colours", "--url", "127.0.0.1:1"], "Connection refused"),
        (["--model", "colours", "--url", "http://127.0.0.1:1"], "refused"),
        (["--model", "colours", "--url", "ftp://127.0.0.1:1"], "begins with ftp://"),
        (["--model", "colours", "--batch", "17"], "batch 17: colours takes 1 to 16"),
    ],
)
def test_what_cannot_work_is_said_at_once(
    served: Stack, tmp_path: Path, arguments: list[str], words: str
) -> None:
    plain(40, 40, GREEN).save(tmp_path / "green.png")
    _, err = classify(served, tmp_path / "green.png", *arguments, code=1)
    assert words in err
    assert err.startswith("error: ")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_proxies_of_the_environment_are_never_asked(served: Stack, tmp_path: Path, protocol: str) -> None:
    plain(40, 40, GREEN).save(tmp_path / "green.png")
    nobody = "http://127.0.0.1:9"
    names = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    env = {k: v for k, v in served.env.items() if k.lower() != "no_proxy"} | dict.fromkeys(names, nobody)
    env["PYTHONPATH"] = PACKAGES
    client = [str(VENVS / "client/bin/python3"), "-m", "triton_stack_client"]
    for arguments in (
        ["classify", str(tmp_path / "green.png"), "--model", "colours", "--protocol", protocol],
        ["smoke"],
    ):
        done = subprocess.run(
            [*client, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_name_the_server_is_asked_what_it_serves(served: Stack, tmp_path: Path) -> None:
    plain(40, 40, GREEN).save(tmp_path / "green.png")
    for url in (f"grpc://127.0.0.1:{served.grpc}", f"http://127.0.0.1:{served.http}"):
        _, err = classify(served, tmp_path / "green.png", "--url", url, code=1)
        assert "2 models are live and none was named" in err


def test_without_a_server_the_truth_is_that_there_is_none(stack: Stack, tmp_path: Path) -> None:
    """Not that the model must be named: that would not help."""
    plain(40, 40, GREEN).save(tmp_path / "green.png")
    _, err = classify(stack, tmp_path / "green.png", code=1)
    assert f"127.0.0.1:{stack.grpc}" in err
    assert "next: is the server up, and is this its address? ./scripts/status" in err
    assert "none was named" not in err


def test_a_missing_pillow_is_named(served: Stack, tmp_path: Path) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError('no Pillow here')\n")
    done = subprocess.run(
        [sys.executable, "-m", "triton_stack_client", "classify", "x.png", "--model", "colours"],
        env={**served.env, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGES}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Pillow, which decodes pictures, cannot be imported: no Pillow here")
