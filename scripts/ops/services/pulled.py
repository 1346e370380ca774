"""Services whose image somebody else makes: what cannot be had is left out, and the rest runs."""

from __future__ import annotations

import subprocess
from typing import Callable, Dict, Sequence

# The setting that names another image, by service.
SERVICES = {"prometheus": "PROMETHEUS_IMAGE", "grafana": "GRAFANA_IMAGE"}


def lacking(names: Sequence[str], pull: Callable[[str], subprocess.CompletedProcess[str]]) -> Dict[str, str]:
    """Why each of these services cannot be started, by its name; none for those that can.

    Args:
        pull: runs ``docker compose pull`` for one service, unless its image is here.
    """
    found = {}
    for name in names:
        if name not in SERVICES:
            continue
        done = pull(name)
        if done.returncode:
            words = [line.strip() for line in done.stdout.splitlines() if line.strip()]
            why = words[-1] if words else "Docker does not say why"
            found[name] = (
                f"its image is not here and cannot be pulled ({why}); {SERVICES[name]} names another"
            )
    return found
