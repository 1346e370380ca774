"""Health of the server: does every live model answer with its live version?

Only the standard library, since this runs inside NVIDIA's image too; models_volume is copied beside it.
Environment: MODEL_REPOSITORY, HTTP_PORT. Exit code 0 or 1.
"""

import os
import sys
from pathlib import Path

from models_volume import readiness
from models_volume.layout import Volume


def main() -> int:
    """Print one line per model and return 0 when all of them answer."""
    repository = Path(os.environ.get("MODEL_REPOSITORY") or "/models/repository")
    port = int(os.environ.get("HTTP_PORT") or 8000)
    models = Volume(repository.parent).links()
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
