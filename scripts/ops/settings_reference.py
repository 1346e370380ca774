"""``python3 scripts/ops/settings_reference.py``: write docs/settings.md from .env."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "settings.md"
_HEAD = """# Settings

Every setting of the stack has a line in [`.env`](../.env). A variable of the environment overrides it:
`HTTP_PORT=9000 ./scripts/up`. An empty variable overrides nothing. Paths are relative to the checkout.
This page is written from `.env` by `python3 scripts/ops/settings_reference.py`.
"""


def page(env: str) -> str:
    """The page for the text of .env: a row for each of its settings."""
    parts = [_HEAD, "| setting | default | |", "|---|---|---|"]
    for paragraph in env.split("\n\n")[1:]:  # the first says what the file is
        why: List[str] = []
        complete = False  # the comment above is the last setting's
        for line in paragraph.splitlines():
            if line.startswith("#"):
                why = [*([] if complete else why), line.lstrip("# ")]
                complete = False
                continue
            name, _, default = line.partition("=")
            text = "as above" if complete else " ".join(why).replace("|", "\\|")
            parts.append(f"| `{name}` | {f'`{default}`' if default else ''} | {text} |")
            complete = True
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page((ROOT / ".env").read_text("utf-8")), "utf-8")
    print(PAGE, file=sys.stderr)
