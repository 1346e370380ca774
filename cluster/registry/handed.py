"""``python -m cluster.registry.handed``: this machine's credentials, for a container.

A credential helper is a program of this machine, and config.json may name one: so the scripts ask here, and
hand the answer over in the container's environment. Standard library only. Prints one JSON object: ``entry``,
as config.json's ``auths`` has it, or null; or ``error``.
"""

from __future__ import annotations

import json
import sys

from cluster.errors import ClusterError
from cluster.registry import credentials
from cluster.registry.references import RegistrySettings


def main() -> int:
    """0, or 1 with the error."""
    try:
        found = credentials.of_host(RegistrySettings.of().host)
    except ClusterError as e:
        print(json.dumps({"error": e.facts()}))
        return 1
    print(json.dumps({"entry": None if found is None else credentials.entry(found)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
