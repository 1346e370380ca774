"""Health of the server: does every live model answer with its live version?

Not /v2/health/ready: that is 400 while anything loads, and stays 400 after one failed load until the
server is restarted, with the old version serving all along. Only the standard library, since this runs
inside NVIDIA's image too. Environment: MODEL_REPOSITORY, HTTP_PORT. Exit code 0 or 1.
"""

import http.client
import os
import sys
from pathlib import Path


def live(repository: Path) -> "dict[str, str]":
    """Each model in the repository and the version its link names (../releases/<model>/<N>/model)."""
    return {
        link.name: Path(os.readlink(str(link))).parent.name
        for link in sorted(repository.iterdir())
        if link.is_symlink()
    }


def ready(port: int, model: str, version: str) -> bool:
    """Whether that version of that model answers on the server's HTTP port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/v2/models/{model}/versions/{version}/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """Print one line per model and return 0 when all of them answer."""
    repository = Path(os.environ.get("MODEL_REPOSITORY") or "/models/repository")
    port = int(os.environ.get("HTTP_PORT") or 8000)
    models = live(repository) if repository.is_dir() else {}
    if not models:
        print(f"nothing is published in {repository}: run the builder")
        return 1
    states = {model: ready(port, model, version) for model, version in models.items()}
    for model, answers in states.items():
        print(f"{model} version {models[model]}: {'ready' if answers else 'does not answer'}")
    return 0 if all(states.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
