"""Lua files of the gateway without a gateway: HAProxy's own Lua runs them as it reads a configuration."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from support.gateway import haproxy
from support.stack import ROOT

LUA = ROOT / "gateway" / "lua"


def run(folder: Path, program: str, cases: list[bytes]) -> list[Any]:
    """What ``program`` answers to each case: a chunk of Lua that has the case in ``case`` and calls
    ``answer(value)`` with a boolean, a number, a string or nil."""
    folder.mkdir(parents=True, exist_ok=True)
    source = [
        "local function answer(v)",
        "  local text = type(v) == 'string' and string.format('%q', v) or tostring(v)",
        "  io.stderr:write('ANSWER ' .. text .. '\\n')",
        "end",
        "local function check(case)",
        program,
        "end",
    ]
    for case in cases:
        source.append(f'check("{"".join(f"{chr(92)}{byte:03d}" for byte in case)}")')
    (folder / "check.lua").write_text("\n".join(source))
    (folder / "check.cfg").write_text(
        f"global\n    lua-prepend-path {LUA}/?.lua\n    lua-load {folder / 'check.lua'}\n"
    )
    done = subprocess.run(
        [haproxy(), "-f", str(folder / "check.cfg"), "-c"], capture_output=True, text=True, check=False
    )
    answers = [line[7:] for line in done.stderr.splitlines() if line.startswith("ANSWER ")]
    assert len(answers) == len(cases), done.stderr[-2000:]
    words = {"nil": None, "true": True, "false": False}
    return [words[a] if a in words else json.loads(a) for a in answers]
