"""A registry of a few canned answers, to fail in ways that a real one does only when it is ill."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# From the handler, with the number of the request to that path (from 1); it answers by itself.
Answer = Callable[[BaseHTTPRequestHandler, int], None]


class FaultRegistry:
    """Answers by "METHOD /path" (without its query); all else is a 404.

    Attributes:
        host: host:port.
        log: (method, path with its query, Authorization header or empty) of every request.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.log: list[tuple[str, str, str]] = []
        counts: dict[str, int] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                outer.log.append((self.command, self.path, self.headers.get("Authorization", "")))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                key = f"{self.command} {self.path.partition('?')[0]}"
                counts[key] = counts.get(key, 0) + 1
                outer.answers.get(key, status(404))(self, counts[key])

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any  # noqa: N815  (the base class's names)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[FaultRegistry]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    """An answer, whole."""
    return cut(code, headers, body, len(body))


def cut(code: int, headers: dict[str, str] | None, body: bytes, length: int) -> Answer:
    """An answer that promises ``length`` bytes; where ``body`` is shorter, the connection ends after it."""

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(code)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
        handler.close_connection = handler.close_connection or len(body) < length

    return answer


def after(*answers: Answer) -> Answer:
    """The first answer at the first request, and so on; the last one for ever."""
    return lambda handler, n: answers[min(n, len(answers)) - 1](handler, n)
