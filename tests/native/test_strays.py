"""What people put into the repository by hand is flagged, and redeploy goes on."""

from __future__ import annotations

import json
from pathlib import Path

from support.models import write_scale
from support.stack import Stack


def test_strays_are_flagged_and_harm_no_redeploy(stack: Stack, tmp_path: Path) -> None:
    stack.up(write_scale(tmp_path / "1"))
    repository = stack.models_dir / "repository"
    for name in (".staging", "3.tmp", "99999999999999999999"):
        (repository / name).mkdir()
    (repository / "scale" / "7.tmp").mkdir()
    status = stack.status()
    flagged = [line for m in status["models"] for line in m["strays"]]
    assert len(flagged) == 4
    for name in (".staging", "3.tmp", "99999999999999999999", "7.tmp"):
        assert any(name in line for line in flagged)
    text = stack.run("status").stdout
    assert text.count("move it away") == 4
    findings = [f for f in json.loads(stack.run("doctor", "--json").stdout) if f["name"] == "repository"]
    assert len(findings) == 4
    (repository / "scale" / "7.tmp").rmdir()  # it would be version 7 to Triton
    done = stack.run("redeploy", "--model", write_scale(tmp_path / "2", factor=3))
    assert done.returncode == 0, done.stderr
    model = next(m for m in stack.status()["models"] if m["name"] == "scale")
    assert (model["live"], model["ready"]) == (2, True)
