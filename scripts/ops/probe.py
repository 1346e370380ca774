"""Ask a command a question."""

from __future__ import annotations

import subprocess
from typing import List, Optional, Tuple


def ask(argv: List[str]) -> Optional[str]:
    """A command's answer, None when it fails, is not there, says nothing, or takes longer than 20 s."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None


def version(text: Optional[str]) -> Optional[Tuple[int, ...]]:
    """The numbers that ``text`` begins with ("v2.26.1-4" is 2, 26, 1); None when it begins with none."""
    numbers: List[int] = []
    for part in (text or "").strip().lstrip("v").replace("-", "+").split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers) or None


def dotted(numbers: Tuple[int, ...]) -> str:
    """2, 26, 1 as "2.26.1"."""
    return ".".join(map(str, numbers))
