"""``python -m gateway``: run the gateway until SIGTERM, which drains it."""

from __future__ import annotations

import sys

from gateway import options, supervisor
from gateway.errors import GatewayError


def main() -> int:
    """0 after a drained end; 1 with the reason on standard error when it cannot run."""
    try:
        return supervisor.run(options.from_environment())
    except GatewayError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
