"""What a container is handed so that it reaches the registry: no secret in an argument."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from ops import registry_access
from ops.errors import OpsError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("REGISTRY_INSECURE", "REGISTRY_CA", "RELEASE_SIGNING_KEY", "COSIGN_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REGISTRY", "registry.example:5000/models")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def mounted(text: str) -> str:
    return f"/host{text}" if text.startswith("/") else text


def test_settings_are_arguments_and_files_are_named_as_the_container_has_them(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = environment / "pub.pem"
    key.touch()
    monkeypatch.setenv("RELEASE_PUBLIC_KEY", str(key))
    options, secrets = registry_access.handed(mounted)
    assert options == [
        "--env", "REGISTRY=registry.example:5000/models", "--env", f"RELEASE_PUBLIC_KEY=/host{key}",
    ]  # fmt: skip
    assert secrets == {}


def test_credentials_and_the_password_are_in_the_environment_alone(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = base64.b64encode(b"ann:hidden").decode()
    config = {"auths": {"registry.example:5000": {"auth": auth}}}
    (environment / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("COSIGN_PASSWORD", "also hidden")
    options, secrets = registry_access.handed(mounted)
    assert options[2:] == ["--env", "COSIGN_PASSWORD", "--env", "REGISTRY_AUTH"]
    assert secrets == {"COSIGN_PASSWORD": "also hidden", "REGISTRY_AUTH": json.dumps({"auth": auth})}


def test_credentials_that_cannot_be_read_are_told_before_anything_runs(environment: Path) -> None:
    (environment / "config.json").write_text("{")
    with pytest.raises(OpsError, match=r"config\.json cannot be read"):
        registry_access.handed(mounted)


def test_without_a_registry_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY", "")
    assert registry_access.handed(mounted) == ([], {})


@pytest.mark.parametrize("text", ["localhost:5000/models", "127.0.0.1:5000", "[::1]:5000"])
def test_a_registry_on_the_loopback_is_refused_for_a_container(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("REGISTRY", text)
    with pytest.raises(OpsError, match="the container itself"):
        registry_access.handed(mounted)
