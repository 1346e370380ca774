"""The server's own word over HTTP: is it there, which version, is a model version ready, and why not."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Dict, List, Optional

from ops.errors import OpsError


class Server:
    """Triton's HTTP endpoint at host:port."""

    def __init__(self, host: str, port: int) -> None:
        self.url = f"http://{host}:{port}"

    def metadata(self) -> Optional[Dict[str, Any]]:
        """Name, version and extensions; None when nothing answers."""
        data = self._json("/v2")
        return data if isinstance(data, dict) else None

    def ready(self, model: str, version: int) -> bool:
        """Whether that version of the model answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/v2/models/{model}/versions/{version}/ready", timeout=5):
                return True
        except (OSError, ValueError):
            return False

    def index(self) -> List[Dict[str, Any]]:
        """The repository index: name, version, state, reason; empty when nothing answers."""
        data = self._json("/v2/repository/index", post=True)
        return data if isinstance(data, list) else []

    def reason(self, model: str, version: int) -> str:
        """Why that version is not ready, in Triton's words."""
        for row in self.index():
            if row.get("name") == model and row.get("version") in (str(version), None):
                return str(row.get("reason", ""))
        return ""

    def wait(self, live: Dict[str, int], seconds: float, alive: Callable[[], None]) -> None:
        """Wait until every model's version is ready.

        Args:
            alive: called between two looks; raises when there is nothing left to wait for.

        Raises:
            OpsError: the deadline has passed, with Triton's reasons.
        """
        deadline = time.monotonic() + seconds
        missing = dict(live)
        while True:
            missing = {m: v for m, v in missing.items() if not self.ready(m, v)}
            if not missing:
                return
            alive()
            if time.monotonic() > deadline:
                reasons = [
                    f"{m} version {v}: {self.reason(m, v) or 'not loaded'}" for m, v in missing.items()
                ]
                raise OpsError(
                    f"not ready after {seconds:.0f} s: {', '.join(missing)}", details="\n".join(reasons)
                )
            time.sleep(0.2)

    def _json(self, path: str, *, post: bool = False) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", method="POST" if post else "GET")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return json.loads(answer.read())
        except (OSError, ValueError, urllib.error.URLError):
            return None
