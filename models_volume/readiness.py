"""Does a server answer with that version of a model, and if not, why?

Not /v2/health/ready: that is 400 while anything loads, and stays 400 after one failed load until the server
is restarted, with the old version serving all along. Asked without a proxy: it is our own server.
"""

from __future__ import annotations

import http.client
import json
from typing import Any, Dict, Iterable, List, Mapping

TIMEOUT = 5.0  # seconds for each answer


def ready(host: str, port: int, model: str, version: int) -> bool:
    """Whether that version of the model answers on the server's HTTP port."""
    status, _ = _ask(host, port, "GET", f"/v2/models/{model}/versions/{version}/ready")
    return status == http.client.OK


def index(host: str, port: int) -> List[Dict[str, Any]]:
    """The server's repository index: name, version, state, reason; empty when nothing answers."""
    status, body = _ask(host, port, "POST", "/v2/repository/index")
    try:
        rows = json.loads(body) if status == http.client.OK else []
    except ValueError:
        return []
    return rows if isinstance(rows, list) else []


def reason(rows: Iterable[Mapping[str, Any]], model: str, version: int) -> str:
    """Why a version is not ready, in the words of Triton's index; empty while it gives no reason.

    A row without a version speaks of the model as a whole. "unloaded" is no reason: Triton says it of a
    version that has made way for another.
    """
    for row in rows:
        if row.get("name") == model and str(row.get("version") or version) == str(version):
            words = str(row.get("reason") or "")
            return "" if words == "unloaded" else words
    return ""


def _ask(host: str, port: int, method: str, path: str) -> tuple[int, bytes]:
    """Status and body; status 0 when nothing answers in HTTP."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
