"""The local baseline, a process in the server's environment: triton/cpu/baseline.py says what it answers."""

from __future__ import annotations

import json
import subprocess
from types import TracebackType
from typing import Any

from models_volume.layout import GOLDEN
from triton_stack_client.errors import ClientError
from triton_stack_client.verify.release import Release


class BaselineProcess:
    """A release's model, run by onnxruntime directly.

    Args:
        command: what starts the baseline.
        config: the model's configuration, as the server uses it.

    Attributes:
        threads, version: of onnxruntime.

    Raises:
        ClientError: it cannot be started, with its own words.
    """

    def __init__(self, command: list[str], release: Release, config: dict[str, Any]) -> None:
        self.command = command
        file = release.folder / "model" / str(release.version) / config["default_model_filename"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as e:
            raise ClientError(
                f"the local baseline cannot be started: {' '.join(command)}: {e.strerror}"
            ) from e
        facts = self._exchange({"model": str(file), "config": config, "golden": str(release.folder / GOLDEN)})
        self.threads = int(facts["threads"])
        self.version = str(facts["version"])

    def run(self, batch: int, requests: int) -> list[float]:
        """The seconds of each of ``requests`` runs of ``batch`` samples; raises ClientError."""
        seconds: list[float] = self._exchange({"batch": batch, "requests": requests})["seconds"]
        return seconds

    def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        if not (process.stdin and process.stdout and process.stderr):
            raise ClientError("the local baseline has no pipes")  # Popen was asked for all three
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError) as e:
            self.close()
            words = process.stderr.read().strip().splitlines()[-3:]
            raise ClientError(
                f"the local baseline ended: {' '.join(self.command)}: {' '.join(words) or e}",
                remedy="it runs in the server's environment: ./scripts/up makes it",
            ) from e
        return answer

    def close(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def __enter__(self) -> BaselineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
