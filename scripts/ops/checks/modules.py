"""Which modules this interpreter lacks: asked of a process of its own, since an import can end one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import List, Sequence

_PROGRAM = Path(__file__).with_name("importable.py")


def missing(names: Sequence[str]) -> List[str]:
    """Those that cannot be imported, each with its cause where that is another; then the last words of a
    process that an import has ended."""
    done = subprocess.run(
        [sys.executable, str(_PROGRAM), *names], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines() + ([done.stderr.strip()[-200:]] if done.returncode else [])
