"""Hooks by name: programs of the operator's own in hooks/, told what happens by environment variables.

hooks/pre-redeploy     before anything is built; failing stops the redeploy
hooks/post-redeploy    after the new release is proven; failing warns
hooks/failed-redeploy  after the old release is back; failing warns
"""

from __future__ import annotations

import os
import subprocess

from ops import console
from ops.errors import OpsError
from ops.settings import ROOT, Settings, folder


def run(name: str, settings: Settings, *, must_succeed: bool, **facts: object) -> None:
    """Run a hook if it is there and executable; ``facts`` become HOOK_<NAME> in its environment.

    Raises:
        OpsError: it failed, and ``must_succeed``.
    """
    path = folder("HOOKS_DIR", "hooks") / name
    if not os.access(path, os.X_OK) or path.is_dir():
        return
    env = settings.environment()
    env.update({f"HOOK_{key.upper()}": "" if value is None else str(value) for key, value in facts.items()})
    console.progress(f"hook {name}")
    try:
        code = subprocess.run([str(path)], env=env, cwd=ROOT, check=False).returncode
    except OSError as e:  # no interpreter, wrong format
        code, reason = 126, f": {e.strerror}"
    else:
        reason = ""
    if code and must_succeed:
        raise OpsError(
            f"hook {name} failed (exit code {code}{reason}); nothing was changed", remedy=f"see {path}"
        )
    if code:
        console.progress(f"WARNING: hook {name} failed (exit code {code}{reason})")
