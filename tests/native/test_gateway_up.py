"""From nothing to labels: the README's own lines, `up --profile gateway` to curl's answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from support.pictures import GREEN, plain, write_colours
from support.stack import ROOT, Stack, free_ports


def readme_s_lines() -> list[str]:
    """The commands of the block that ends with the classify request."""
    blocks = re.findall(r"```sh\n(.+?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    [block] = [b for b in blocks if "/classify" in b]
    return str(block).splitlines()


def test_the_readme_s_lines_bring_up_the_gateway_and_answer_labels(stack: Stack, tmp_path: Path) -> None:
    """They run as they stand there, but for the free port, and a small model under the model's name."""
    tls, metrics, pictures, shadow = free_ports(4)
    stack.env |= {
        "GATEWAY_PORT": str(tls),
        "GATEWAY_METRICS_PORT": str(metrics),
        "GATEWAY_ADDRESS": "127.0.0.1",
        "PICTURES_PORT": str(pictures),
        "SHADOW_PORT": str(shadow),
        "KEYS_FILE": str(tmp_path / "secrets" / "keys"),
    }
    up, key, curl = readme_s_lines()
    [name] = re.findall(r"/v1/models/(\w+)/classify", curl)
    assert up == f"./scripts/up --profile gateway --model {name}"
    spec = write_colours(tmp_path / "spec", name=name)
    try:
        done = stack.up(spec, options=("--profile", "gateway"))
        assert "starting pictures" in done.stderr
        here = tmp_path / "here"
        here.mkdir()
        (here / "scripts").symlink_to(ROOT / "scripts")
        plain(60, 50, GREEN).save(here / "cat.jpg", quality=95)
        retry = "--retry 20 --retry-all-errors --retry-delay 1 --fail --silent --show-error"
        lines = [key, curl.replace("localhost:8443", f"localhost:{tls}").replace("curl ", f"curl {retry} ")]
        bash = shutil.which("bash")
        assert bash
        done = subprocess.run(
            [bash, "-euc", "\n".join(lines)],
            cwd=here, env=stack.env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert (answer["model"], answer["version"]) == (name, 1)
        assert [p["label"] for p in answer["predictions"]] == ["green", "blue", "red"]
        one = key.replace("add me", "add you"), lines[1].replace("/classify", "/classify?top=1")
        done = subprocess.run(
            [bash, "-euc", "\n".join(one)],
            cwd=here, env=stack.env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert [p["label"] for p in json.loads(done.stdout)["predictions"]] == ["green"], done.stderr
        services = {s["name"]: s["state"] for s in stack.status()["services"]}
        assert services == {"pictures": "running", "shadow": "running", "gateway": "running"}
    finally:
        stack.stop()
    assert stack.status()["services"] == []
