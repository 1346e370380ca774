"""This machine's package settings and CA bundle, for an image build and for a builder: handed in as secrets.

A secret is a mount of one RUN, or of one container, so nothing of it becomes part of an image. compose.yaml
reads the two files from BUILD_PIP_CONF and BUILD_CA_BUNDLE; whoever sets them keeps what they set.
"""

from __future__ import annotations

import ast
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, Mapping, Tuple

from ops.errors import OpsError

# Of pip's settings, those that say how packages are reached; the others belong to this machine's disk.
_KEPT = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_IN_BUILD = "/run/secrets/ca_bundle"
_LARGEST = 500 * 1024  # what BuildKit takes as one secret


@contextlib.contextmanager
def handed(environ: Mapping[str, str] = os.environ) -> Iterator[Dict[str, str]]:
    """The two variables for ``docker compose build`` and ``run``; the file made for them is gone afterwards.

    A builder reads it as user 1000, so anybody may; it lies in a folder that nobody else may enter.

    Raises:
        OpsError: the CA bundle is larger than a build secret may be.
    """
    if environ.get("BUILD_PIP_CONF"):
        yield {k: environ[k] for k in ("BUILD_PIP_CONF", "BUILD_CA_BUNDLE") if environ.get(k)}
        return
    config = parse(pip_config())
    bundle = ca_bundle(config, environ)
    if bundle and Path(bundle).stat().st_size > _LARGEST:
        raise OpsError(
            f"the CA bundle {bundle} is larger than the {_LARGEST >> 10} KiB that a build takes as a secret",
            remedy="set BUILD_CA_BUNDLE to a file with only the certificates that your package index needs",
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pip.conf"
        file.write_text(pip_conf(config, environ, bundle), "utf-8")
        file.chmod(0o644)
        yield {"BUILD_PIP_CONF": str(file), "BUILD_CA_BUNDLE": bundle or os.devnull}


def pip_config() -> str:
    """`pip config list`."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return done.stdout  # nothing where there is no pip: then there are no settings either


def parse(text: str) -> Dict[str, str]:
    """``pip config list`` as names and values; what comes from the environment wins, as it does in pip."""
    found: Dict[str, Tuple[bool, str]] = {}
    for line in text.splitlines():
        key, equals, literal = line.partition("=")
        section, _, name = key.rpartition(".")
        name = name.replace("default-", "")  # pip takes PIP_DEFAULT_TIMEOUT for timeout
        if not equals or section not in ("global", "install", ":env:"):
            continue
        from_environment = section == ":env:"
        if from_environment or not found.get(name, (False, ""))[0]:
            found[name] = (from_environment, str(ast.literal_eval(literal)))
    return {name: value for name, (_, value) in found.items()}


def ca_bundle(config: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """The CA bundle that pip uses here; empty where it uses its own."""
    named = [environ.get("BUILD_CA_BUNDLE"), config.get("cert")]
    named += [environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
    return next((path for path in named if path and Path(path).is_file()), "")


def pip_conf(config: Mapping[str, str], environ: Mapping[str, str], bundle: str) -> str:
    """The pip.conf of a build: how to reach an index, without what only this machine's disk holds."""
    lines = ["[global]"]
    for name in _KEPT:
        # Two package indexes are one value with a line break in it.
        words = [w for w in config.get(name, "").split() if not w.startswith(("file:", "/", "."))]
        if words:
            lines.append(f"{name} = {' '.join(words)}")
    proxy = environ.get("HTTPS_PROXY") or environ.get("https_proxy")
    if proxy and "proxy" not in config:
        lines.append(f"proxy = {proxy}")
    if bundle:
        lines.append(f"cert = {_IN_BUILD}")
    return "\n".join(lines) + "\n"
