"""The dashboard's and the rules' expressions, and the names of metrics in them."""

from __future__ import annotations

import re
from typing import Any

import yaml

from monitoring.dashboard import QUESTIONS
from support.stack import ROOT

PROMETHEUS = ROOT / "monitoring" / "prometheus"
_WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "offset", "bool"}


def rules() -> list[dict[str, Any]]:
    """Every rule: {"record" or "alert", "expr", ...}."""
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    return [
        rule
        for file in files
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def queries() -> dict[str, str]:
    """Every expression of the dashboard and of the rules, by where it stands."""
    found = {
        f"panel {panel.title}, {legend}": expr
        for panels in QUESTIONS.values()
        for panel in panels
        for expr, legend in panel.queries
    }
    return {**found, **{f"rule {rule.get('record') or rule['alert']}": rule["expr"] for rule in rules()}}


def metrics(expr: str) -> set[str]:
    """The metrics that an expression names."""
    text = re.sub(r'"[^"]*"', "", expr)
    text = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)", " ", text)
    names = re.findall(r"(?<![\w.:])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])", text)
    return set(names) - _WORDS
