"""uv as the installer of the locked environments, with the settings that pip has on this machine.

uv reads neither pip.conf nor PIP_* variables. Each setting of pip's that says how packages are reached is
handed on as uv's own; where there is one that uv has no word for, pip installs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional

from ops.runtimes import build_secrets


def _words(separator: str) -> Callable[[str], str]:
    return lambda value: separator.join(value.split())


def _same(value: str) -> str:
    return value


def _flag(value: str) -> str:
    return "" if value.strip().lower() in ("", "0", "false", "no", "off") else "1"


# pip's setting -> uv's variable, and how a value is written there.
_TO_UV = {
    "index-url": ("UV_DEFAULT_INDEX", _same),
    "extra-index-url": ("UV_INDEX", _words(" ")),
    "find-links": ("UV_FIND_LINKS", _words(",")),
    "no-index": ("UV_NO_INDEX", _flag),
    "trusted-host": ("UV_INSECURE_HOST", _words(" ")),
    "timeout": ("UV_HTTP_TIMEOUT", _same),
    "retries": ("UV_HTTP_RETRIES", _same),
    "cert": ("SSL_CERT_FILE", _same),
    "proxy": ("ALL_PROXY", _same),
}
# Settings of pip's that change nothing where every package is pinned by its hash.
_WITHOUT_EFFECT = {
    "break-system-packages", "cache-dir", "constraint", "disable-pip-version-check", "no-cache-dir",
    "no-color", "no-input", "no-warn-script-location", "prefer-binary", "progress-bar", "quiet",
    "require-virtualenv", "root-user-action", "upgrade-strategy", "user", "verbose", "yes",
}  # fmt: skip


def program() -> Optional[str]:
    """uv on PATH."""
    return shutil.which("uv")


def environment(
    config: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> Optional[Dict[str, str]]:
    """``environ`` with pip's settings (``pip_settings``) as uv's; None where uv cannot have them.

    What is set for uv itself stays as it is.
    """
    if set(config) - set(_TO_UV) - _WITHOUT_EFFECT:
        return None
    found = {}
    for setting, (variable, write) in _TO_UV.items():
        value = write(config.get(setting, "").strip())
        if value:
            found[variable] = value
    bundle = environ.get("REQUESTS_CA_BUNDLE")
    if "SSL_CERT_FILE" not in found and bundle and Path(bundle).is_file():
        found["SSL_CERT_FILE"] = bundle  # pip asks for this one, uv does not
    if "UV_INDEX" in found:  # pip looks at every index; hashes say that it is the same file
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    own = {name: value for name, value in environ.items() if name.startswith("UV_")}
    if own.get("UV_INDEX_URL"):
        found.pop("UV_DEFAULT_INDEX", None)
    return {**environ, **found, **own}


def command(uv: str, python: str, lock_file: str) -> List[str]:
    """What installs ``lock_file`` into the environment of ``python``."""
    return [
        uv, "pip", "install", "--python", python, "--no-deps", "--require-hashes", "--no-progress",
        "-r", lock_file,
    ]  # fmt: skip


def pip_settings() -> Dict[str, str]:
    """What pip is set to on this machine."""
    return build_secrets.parse(build_secrets.pip_config())
