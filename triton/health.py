"""Health of the server: does every live model answer with its live version?

Only the standard library, since this runs inside NVIDIA's image too; models_volume is copied beside it.
Environment: MODEL_REPOSITORY, HTTP_PORT, HEALTHY_EMPTY. Exit code 0 or 1.
"""

import http.client
import os
import sys
from pathlib import Path

from models_volume import readiness
from models_volume.layout import Volume


def live(host: str, port: int) -> bool:
    """Whether the server answers at all."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/v2/health/live")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """Print one line per model and return 0 when all of them answer."""
    repository = Path(os.environ.get("MODEL_REPOSITORY") or "/models/repository")
    port = int(os.environ.get("HTTP_PORT") or 8000)
    models = Volume(repository.parent).links()
    if not models and os.environ.get("HEALTHY_EMPTY"):
        # In a swarm a node's agent finds a new server, which has nothing yet, only if it counts as healthy.
        print(f"nothing is published in {repository} yet")
        return 0 if live("127.0.0.1", port) else 1
    if not models:
        print(f"nothing is published in {repository}: run the builder")
        return 1
    states = {
        model: version is not None and readiness.ready("127.0.0.1", port, model, version)
        for model, version in models.items()
    }
    for model, answers in states.items():
        print(f"{model} version {models[model]}: {'ready' if answers else 'does not answer'}")
    return 0 if all(states.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
