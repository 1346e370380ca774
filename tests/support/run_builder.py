"""Run by the builder's Python: several commands in one process, for TensorFlow takes seconds to start.

    run_builder.py JOBS.json RESULTS.json

JOBS is a list of argument lists; RESULTS gets {"code", "out", "err"} for each.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from builder import cli


def run(argv: list[str]) -> dict[str, object]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = cli.main(argv)
        except SystemExit as e:
            code = e.code
        except BaseException:
            traceback.print_exc(file=err)
            code = "crashed"
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


jobs = json.loads(Path(sys.argv[1]).read_text("utf-8"))
Path(sys.argv[2]).write_text(json.dumps([run(argv) for argv in jobs]), "utf-8")
