"""The server's own words: over HTTP (is it there, is a version ready, why not), and in its log."""

from __future__ import annotations

import http.client
import json
import re
import time
from typing import Any, Callable, Dict, List, Optional

from models_volume import readiness
from ops.errors import OpsError

# Triton's and glog's head of a line: a letter for the level, the date and time, the thread, the source line.
_HEAD = re.compile(r"^([IWEF])\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] ?")
_TABLE = re.compile(r"^[+|]")
# What every server without a GPU says, right or wrong.
_NOISE = re.compile(
    r"CudaDriverHelper has not been initialized"
    r"|Unable to allocate pinned system memory"
    r"|Failed to initialize NVML"
    r"|^Signal \(\d+\) received"
    r'|^\{"cmdline":'
)


class Server:
    """Triton's HTTP endpoint at host:port."""

    def __init__(self, host: str, port: int) -> None:
        self.url = f"http://{host}:{port}"
        self._host, self._port = host, port

    def metadata(self) -> Optional[Dict[str, Any]]:
        """Name, version and extensions; None when nothing answers."""
        # http.client knows nothing of http_proxy: our own server is never asked through a proxy.
        connection = http.client.HTTPConnection(self._host, self._port, timeout=readiness.TIMEOUT)
        try:
            connection.request("GET", "/v2")
            data = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return data if isinstance(data, dict) else None

    def ready(self, model: str, version: int) -> bool:
        """Whether that version of the model answers."""
        return readiness.ready(self._host, self._port, model, version)

    def reason(self, model: str, version: int) -> str:
        """Why that version is not ready, in Triton's words."""
        return readiness.reason(readiness.index(self._host, self._port), model, version)

    def wait(self, live: Dict[str, int], seconds: float, alive: Callable[[], None]) -> None:
        """Wait until the server answers and every model's version is ready.

        A version whose load has failed is not waited for: one poll later Triton may try it again, but an
        engine that it refused once it refuses again.

        Args:
            alive: called between two looks; raises when there is nothing left to wait for.

        Raises:
            OpsError: a load failed or the deadline has passed, with Triton's reasons.
        """
        deadline = time.monotonic() + seconds
        missing = dict(live)
        while True:
            missing = {m: v for m, v in missing.items() if not self.ready(m, v)}
            answers = self.metadata() is not None
            if answers and not missing:
                return
            alive()
            reasons = {m: self.reason(m, v) for m, v in missing.items()} if answers else {}
            failed = {m: r for m, r in reasons.items() if r}
            if failed or time.monotonic() > deadline:
                raise OpsError(
                    f"not ready: {', '.join(f'{m} version {v}' for m, v in missing.items())}"
                    if missing
                    else f"the server did not answer within {seconds:.0f} s",
                    details="\n".join(
                        f"{m} version {v}: {reasons.get(m) or 'not loaded'}" for m, v in missing.items()
                    ),
                )
            time.sleep(0.2)


def explained(e: OpsError, log: List[str], whole: str) -> OpsError:
    """What ``Server.wait`` raised, with what the log says of it; ``whole`` tells where all of the log is."""
    why = "" if e.details else cause(log)  # where a model failed, e names it with Triton's reason
    return OpsError(
        f"{e.found}: {why}" if why else e.found,
        details=f"{e.details}\n{errors(log)}".strip(),
        remedy=whole,
    )


def errors(log: List[str], lines: int = 20) -> str:
    """The last of a log's errors, without their heads; its last lines where it has none."""
    found = _errors(log)
    return "\n".join((found or [line for line in log if line.strip()])[-lines:])


def cause(log: List[str]) -> str:
    """What a server that did not start said last of its errors, in one line; empty where it said nothing.

    Errors come in the order in which they go up: the last one is the one that nothing went on after.
    """
    found = [line for line in _errors(log) if not line.startswith((" ", "\t"))]
    return found[-1].strip() if found else ""


def _errors(log: List[str]) -> List[str]:
    """Errors, each with its further lines, and what other programs wrote (a shell, C++'s last words)."""
    found, level = [], ""
    for line in log:
        head = _HEAD.match(line)
        text = line[head.end() :].strip('"') if head else line
        # A line with no head belongs to the one before it, where it is set in or in its quotation marks.
        level = head.group(1) if head else level if line.startswith((" ", "\t")) else "E"
        if level in ("E", "F") and text.strip() and not _TABLE.match(text) and not _NOISE.search(text):
            found.append(text.rstrip('"'))
    return found
