"""What an operator runs: ``./scripts/stack`` and the names beside it are thin doors to this package."""

import sys
from pathlib import Path

# models_volume lies beside scripts/. Last, so that nothing of the repository hides a package.
sys.path.append(str(Path(__file__).resolve().parents[2]))
