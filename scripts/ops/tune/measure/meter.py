"""The client's meter (``python -m triton_stack_client.tune meter``) as a process that answers questions."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List

from ops.errors import OpsError
from ops.tune.judge.halving import LookFailedError


class Meter:
    """A context manager. It ends with this process, whatever ends it.

    Args:
        argv: ``python -m triton_stack_client.tune meter`` and its options.
        log: takes what it says beside its answers.
    """

    def __init__(self, argv: List[str], env: Dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                start_new_session=True,
            )

    def ask(self, **question: Any) -> Dict[str, Any]:
        """An answer; raises LookFailedError with the meter's words, OpsError when it has ended."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            answer: Dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError) as e:
            words = self._log.read_text("utf-8", "replace").strip().splitlines()[-3:]
            raise OpsError("the meter ended", details="\n".join(words)) from e
        if "error" in answer:
            raise LookFailedError(str(answer["error"]).splitlines()[0])
        return answer

    def close(self) -> None:
        """End it, with the perf_analyzer that it runs."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.unlink(missing_ok=True)
