"""``python -m models_volume snapshot DIR``: a models volume as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import List

from models_volume.snapshot import snapshot


def main(argv: List[str]) -> int:
    """Print the snapshot; 0, or 1 when the volume cannot be read, or 2 for wrong usage."""
    if len(argv) != 2 or argv[0] != "snapshot":
        print("usage: python -m models_volume snapshot DIR", file=sys.stderr)
        return 2
    try:
        print(json.dumps(snapshot(Path(argv[1]))))
    except OSError as e:
        print(f"{e.filename}: {e.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
