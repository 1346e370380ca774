"""Findings as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

from triton_stack_client.terminal import coloured


@dataclass(frozen=True)
class Finding:
    """One check: of which model, what, whether it held, and the figure or the reason."""

    model: str
    check: str
    ok: bool
    detail: str


def print_json(findings: list[Finding], **more: object) -> None:
    """Everything as one JSON object on standard output."""
    data = {"ok": all(f.ok for f in findings), **more, "checks": [asdict(f) for f in findings]}
    print(json.dumps(data, indent=2))


def print_table(findings: list[Finding]) -> None:
    """One aligned line per check on standard output; in colour on a terminal."""
    green, red, plain = ("\033[32m", "\033[31m", "\033[0m") if coloured(sys.stdout) else ("", "", "")
    width = max(len(f.check) for f in findings)
    model = ""
    for f in findings:
        if f.model != model:
            model = f.model
            print(model)
        mark = f"{green}ok{plain}  " if f.ok else f"{red}FAIL{plain}"
        print(f"  {mark} {f.check.ljust(width)}  {f.detail}")


def print_summary(findings: list[Finding]) -> None:
    """One line for each model whose checks all held; every line of the others."""
    models = {f.model: [g for g in findings if g.model == f.model] for f in findings}
    good = [model for model, checks in models.items() if all(f.ok for f in checks)]
    width = max((len(model) for model in good), default=0)
    for model in good:
        print(f"ok   {model.ljust(width)}  {len(models[model])} checks")
    bad = [f for f in findings if f.model not in good]
    if bad:
        print_table(bad)
