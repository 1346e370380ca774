"""``python -m gateway.health``: does HAProxy answer? Compose's health check. Exit code 0 or 1."""

from __future__ import annotations

import http.client
import os
import sys


def main() -> int:
    """Ask /healthz on the port of its metrics."""
    port = int(os.environ.get("GATEWAY_METRICS_PORT") or 8404)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except OSError as e:
        print(f"HAProxy does not answer on port {port}: {e}")
        return 1
    print(f"HAProxy answers {status}")
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
