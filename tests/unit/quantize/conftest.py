"""A classifier with INT8 asked for, made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import conv_net
from support.conv_net import ConvNet

from builder.release.store import Store


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> ConvNet:
    return conv_net.write(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="session")
def made_fragile(tmp_path_factory: pytest.TempPathFactory) -> ConvNet:
    return conv_net.write(tmp_path_factory.mktemp("fragile"), fragile=True)


@pytest.fixture
def net(made: ConvNet, tmp_path: Path) -> Path:
    """Its folder, to be changed at will."""
    return shutil.copytree(made.spec.parent, tmp_path / "net")


@pytest.fixture
def fragile(made_fragile: ConvNet, tmp_path: Path) -> Path:
    """The same of the one that INT8 hurts."""
    return shutil.copytree(made_fragile.spec.parent, tmp_path / "fragile")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def change() -> Callable[..., Path]:
    """Put keys into a folder's spec; those that are None are taken out."""

    def change(folder: Path, **keys: Any) -> Path:
        file = folder / "net.yaml"
        document = {**yaml.safe_load(file.read_text()), **keys}
        file.write_text(yaml.safe_dump({k: v for k, v in document.items() if v is not None}))
        return file

    return change
