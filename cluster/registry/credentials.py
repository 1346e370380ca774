"""Credentials as Docker keeps them: config.json, and the programs that it names."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError

_HELPER_SECS = 30
_TOKEN = "<token>"  # noqa: S105  (the user's name under which helpers keep identity tokens)


@dataclass(frozen=True)
class Credentials:
    """What to show a registry.

    Attributes:
        user: empty with an identity token.
        secret: the password, or the identity token.
        identity: whether it is an identity token (OAuth 2's refresh token).
    """

    user: str
    secret: str = field(repr=False)
    identity: bool = False


def of_host(host: str, environ: Mapping[str, str] = os.environ) -> Credentials | None:
    """The credentials for host[:port]; None where there are none.

    In Docker's order: the host's own helper (credHelpers), the store (credsStore), then ``auths``. What was
    handed over in REGISTRY_AUTH comes first: an entry of ``auths`` as JSON (see ``handed``).

    Raises:
        ClusterError: config.json cannot be read, or a helper fails.
    """
    given = environ.get("REGISTRY_AUTH", "")
    if given:
        try:
            return _entry(dict(json.loads(given)), "REGISTRY_AUTH")
        except (ValueError, TypeError) as e:
            raise ClusterError("REGISTRY_AUTH is no entry of Docker's auths") from e
    folder = environ.get("DOCKER_CONFIG") or str(Path(environ.get("HOME") or "~").expanduser() / ".docker")
    file = Path(folder) / "config.json"
    config = _read(file)
    helpers = config.get("credHelpers")
    helper = helpers.get(host) if isinstance(helpers, dict) else None
    helper = helper or config.get("credsStore")
    if helper:
        found = _ask(str(helper), host, file)
        if found is not None:
            return found
    auths = config.get("auths")
    for key, entry in (auths if isinstance(auths, dict) else {}).items():
        if _host(key) == host and isinstance(entry, dict):
            found = _entry(entry, f"{file}: auths: {key}")
            if found is not None:
                return found
    return None


def entry(shown: Credentials) -> dict[str, str]:
    """As ``auths`` has it."""
    if shown.identity:
        return {"identitytoken": shown.secret}
    return {"auth": base64.b64encode(f"{shown.user}:{shown.secret}".encode()).decode()}


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not JSON"
        raise ClusterError(
            f"{file} cannot be read: {reason}", remedy="correct it, or log in again: docker login"
        ) from e
    return data if isinstance(data, dict) else {}


def _host(key: str) -> str:
    """Old entries are addresses: https://host/v1/."""
    return key.split("://", 1)[-1].split("/", 1)[0]


def _entry(entry: dict[str, Any], where: str) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials("", str(entry["identitytoken"]), identity=True)
    if not entry.get("auth"):
        return None  # the helper's: only its name is here
    try:
        text = base64.b64decode(str(entry["auth"]), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as e:
        raise ClusterError(f"{where}: auth is not base64", remedy="log in again: docker login") from e
    user, colon, secret = text.rstrip("\0").partition(":")
    if not colon:
        raise ClusterError(f"{where}: auth is not user:password", remedy="log in again: docker login")
    return Credentials(user, secret)


def _ask(helper: str, host: str, file: Path) -> Credentials | None:
    """Run ``docker-credential-HELPER get``; what it prints stays here, since it may be the secret."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        raise ClusterError(f"{file}: {helper!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=host, capture_output=True, text=True, timeout=_HELPER_SECS, check=False
        )
    except FileNotFoundError as e:
        raise ClusterError(
            f"{file} names the credential helper {program}, which is not on PATH",
            remedy="install it, or take it out of the file and log in again: docker login",
        ) from e
    except subprocess.TimeoutExpired as e:
        raise ClusterError(f"{program} did not answer in {_HELPER_SECS} s") from e
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        if "credentials not found" in said:  # the protocol's own words for it
            return None
        raise ClusterError(f"{program} get ended with {done.returncode}", details=done.stderr.strip()[-500:])
    try:
        data = json.loads(done.stdout)
        user, secret = str(data["Username"]), str(data["Secret"])
    except (ValueError, KeyError, TypeError) as e:
        raise ClusterError(
            f"{program} get answered no credentials", expected="JSON with Username and Secret"
        ) from e
    return Credentials("", secret, identity=True) if user == _TOKEN else Credentials(user, secret)
