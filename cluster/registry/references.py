"""Which registry there is (REGISTRY in .env), and what a model and its releases are called in it."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.errors import ClusterError

_HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?")
# The distribution specification's grammar of a repository's name and of a tag.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LIVE = "live"  # the tag that `promote` moves


@dataclass(frozen=True)
class RegistrySettings:
    """Where releases are kept.

    Attributes:
        host: host[:port].
        path: what comes before a model's name, without slashes at its ends; may be empty.
        plain: HTTP instead of HTTPS.
        ca: a file with the certificates to trust; empty: the system's.
    """

    host: str
    path: str
    plain: bool
    ca: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> RegistrySettings:
        """From REGISTRY, REGISTRY_INSECURE, REGISTRY_CA (or SSL_CERT_FILE).

        Raises:
            ClusterError: there is no registry, or REGISTRY is none.
        """
        text = environ.get("REGISTRY", "").strip().rstrip("/")
        if not text:
            raise ClusterError(
                "no registry is set",
                expected="REGISTRY=host[:port][/path]",
                remedy="set REGISTRY in .env",
            )
        host, _, path = text.partition("/")
        port = host.rpartition(":")[2] if ":" in host.rpartition("]")[2] else "1"
        if not _HOST.fullmatch(host) or not 1 <= int(port) <= 65535:
            raise ClusterError(
                f"REGISTRY: found {text}",
                expected="host[:port][/path], without http:// or https://",
                remedy="correct REGISTRY in .env; plain HTTP is REGISTRY_INSECURE=1",
            )
        if path and not _REPOSITORY.fullmatch(path):
            raise ClusterError(
                f"REGISTRY: found the path {path}",
                expected="parts of lower-case letters, digits and single . _ - between them",
                remedy="correct REGISTRY in .env",
            )
        plain = environ.get("REGISTRY_INSECURE", "") == "1" or local(host)
        return cls(host, path, plain, environ.get("REGISTRY_CA") or environ.get("SSL_CERT_FILE") or "")


@dataclass(frozen=True)
class Reference:
    """A model's release in a registry.

    Attributes:
        model: its true name.
        repository: the registry's name for it: path and name in lower case.
        reference: a digest (``sha256:...``) or a tag (a release's number, or ``live``).
    """

    model: str
    repository: str
    reference: str

    @property
    def by_digest(self) -> bool:
        """Whether it can only ever be these bytes."""
        return is_digest(self.reference)

    def __str__(self) -> str:
        return f"{self.repository}{'@' if self.by_digest else ':'}{self.reference}"


def parse(text: str, settings: RegistrySettings) -> Reference:
    """``MODEL``, ``MODEL:N``, ``MODEL:live`` or ``MODEL@sha256:...``; without a reference it is ``live``.

    Raises:
        ClusterError: it is none of them, or a registry does not take the model's name.
    """
    model, at, digest = text.partition("@")
    tag = ""
    if not at:
        model, _, tag = text.partition(":")
    reference = digest if at else tag or LIVE
    if not (is_digest(reference) if at else _TAG.fullmatch(reference)) or text.endswith(":"):
        raise ClusterError(
            f"{text} names no release", expected="MODEL, MODEL:N, MODEL:live or MODEL@sha256:(64 hex digits)"
        )
    return Reference(model, repository(model, settings), reference)


def repository(model: str, settings: RegistrySettings) -> str:
    """The repository of a model; raises ClusterError for a name that a registry does not take."""
    name = model.lower()
    if not re.fullmatch(_COMPONENT, name):
        raise ClusterError(
            f"a registry does not take the model's name {model!r}",
            expected="letters and digits, with single . _ or - between them (__ and -- are taken too)",
            remedy="give the model another name in its spec",
        )
    return f"{settings.path}/{name}" if settings.path else name


def is_digest(text: str) -> bool:
    """Whether this is a sha256 digest as OCI writes it."""
    return _DIGEST.fullmatch(text) is not None


def local(host: str) -> bool:
    """Whether a host[:port] is this machine by a loopback name or address."""
    name = host.partition("]")[0].strip("[") if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"
