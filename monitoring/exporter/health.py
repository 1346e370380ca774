"""Health of the exporter in its container: does /metrics answer on the port that Compose gives it?"""

from __future__ import annotations

import http.client
import sys

PORT = 9105


def main() -> int:
    """0 when it answers."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return 0 if connection.getresponse().status == http.client.OK else 1
    except (OSError, http.client.HTTPException) as e:
        print(f"no metrics on port {PORT}: {e}")
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
