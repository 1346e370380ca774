"""Colour for people on a terminal who want it, and never through a proxy."""

from __future__ import annotations

import io

import pytest
from triton_stack_client.terminal import coloured
from triton_stack_client.transport import direct
from triton_stack_client.verify import report
from triton_stack_client.verify.report import Finding


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured(Terminal())
    assert not coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "")  # no-color.org: set, and not empty
    assert coloured(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(Terminal())


def test_the_smoke_test_s_table_respects_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout", out := Terminal())
    report.print_table([Finding("m", "a", True, "x"), Finding("m", "b", False, "y")])
    assert "\033" not in out.getvalue()
    assert "FAIL b" in out.getvalue()


def test_perf_analyzer_is_told_of_no_proxy() -> None:
    environ = {"http_proxy": "x", "HTTPS_PROXY": "x", "all_proxy": "x", "no_proxy": "x", "PATH": "p"}
    assert direct.environment(environ) == {"PATH": "p"}
