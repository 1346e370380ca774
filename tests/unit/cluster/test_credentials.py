"""Credentials as Docker keeps them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterError
from cluster.registry.credentials import Credentials, entry, of_host

HOST = "r.example:5000"


def found(folder: Path, config: Any) -> Credentials | None:
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text, "utf-8")
    return of_host(HOST, {"DOCKER_CONFIG": str(folder)})


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real program; it notes what it was asked, and how."""
    program = tmp_path / "docker-credential-vault"
    answer = json.dumps({"ServerURL": HOST, "Username": "bob", "Secret": "from the vault"})
    program.write_text(f"#!/bin/sh\necho \"$*\" >{tmp_path}/asked; cat >>{tmp_path}/asked; echo '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return program


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert of_host(HOST, {"DOCKER_CONFIG": str(tmp_path)}) is None
    assert of_host(HOST, {"HOME": str(tmp_path)}) is None


def test_home_is_where_they_are_by_default(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {HOST: auth("ann:a:b")}}))
    assert of_host(HOST, {"HOME": str(tmp_path)}) == Credentials("ann", "a:b")


@pytest.mark.parametrize("key", [HOST, f"https://{HOST}", f"https://{HOST}/v1/"])
def test_a_login_s_entry(tmp_path: Path, key: str) -> None:
    assert found(tmp_path, {"auths": {"other": auth("x:y"), key: auth("ann:hush")}}) == Credentials(
        "ann", "hush"
    )


def test_another_host_s_entry_is_not_shown(tmp_path: Path) -> None:
    assert found(tmp_path, {"auths": {"r.example": auth("ann:hush"), f"{HOST}0": auth("x:y")}}) is None


def test_an_identity_token(tmp_path: Path) -> None:
    config = {"auths": {HOST: {**auth("ann:"), "identitytoken": "t"}}}
    assert found(tmp_path, config) == Credentials("", "t", identity=True)


@pytest.mark.parametrize(
    "config",
    [{"credHelpers": {HOST: "vault"}, "credsStore": "none"}, {"credsStore": "vault", "auths": {HOST: {}}}],
    ids=["credHelpers", "credsStore"],
)
def test_a_helper_is_asked_by_its_protocol(tmp_path: Path, helper: Path, config: dict[str, Any]) -> None:
    assert found(tmp_path, config) == Credentials("bob", "from the vault")
    assert (tmp_path / "asked").read_text() == f"get\n{HOST}"


def test_a_helper_that_knows_none_leaves_it_to_the_file(tmp_path: Path, helper: Path) -> None:
    helper.write_text("#!/bin/sh\necho credentials not found in native keychain; exit 1\n")
    config = {"credsStore": "vault", "auths": {HOST: auth("ann:hush")}}
    assert found(tmp_path, config) == Credentials("ann", "hush")


@pytest.mark.parametrize(
    ("script", "words"), [("echo locked >&2; exit 3", "ended with 3"), ("echo secret", "no credentials")]
)
def test_a_helper_that_fails_is_an_error_without_secrets(
    tmp_path: Path, helper: Path, script: str, words: str
) -> None:
    helper.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(ClusterError, match=words) as e:
        found(tmp_path, {"credsStore": "vault"})
    assert "secret" not in str(e.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "not JSON"),
        ({"auths": {HOST: {"auth": "%"}}}, "not base64"),
        ({"auths": {HOST: auth("ann")}}, "not user:password"),
        ({"credsStore": "no-such-program"}, "not on PATH"),
        ({"credsStore": "../x"}, "no name"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, config: Any, words: str) -> None:
    with pytest.raises(ClusterError, match=words):
        found(tmp_path, config)


@pytest.mark.parametrize(
    "shown", [Credentials("ann", "a:b"), Credentials("", "identity", identity=True)], ids=["user", "token"]
)
def test_what_is_handed_to_a_container_is_read_there(tmp_path: Path, shown: Credentials) -> None:
    environ = {"REGISTRY_AUTH": json.dumps(entry(shown)), "DOCKER_CONFIG": str(tmp_path)}
    assert of_host(HOST, environ) == shown


def test_what_cannot_be_read_of_it_is_told_without_the_secret() -> None:
    with pytest.raises(ClusterError, match="REGISTRY_AUTH is no entry") as caught:
        of_host(HOST, {"REGISTRY_AUTH": "secret"})
    assert "secret" not in str(caught.value)
