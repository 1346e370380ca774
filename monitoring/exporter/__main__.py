"""``python3 -m monitoring.exporter``: Prometheus' metrics of the access log and of the models volume."""

from __future__ import annotations

import argparse
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from models_volume.layout import Volume
from monitoring.exporter.certificate import Certificate
from monitoring.exporter.exposition import CONTENT_TYPE, Family, page
from monitoring.exporter.receiver import Receiver
from monitoring.exporter.releases import Releases
from monitoring.exporter.traffic import Traffic

LOST = "triton_stack_access_lines_lost_total"
CERTIFICATE_END = "triton_stack_certificate_end_timestamp_seconds"


class Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics, and 404 otherwise."""

    families: Callable[[], List[Family]]
    timeout = 10  # seconds that a client may keep a thread waiting

    def do_GET(self) -> None:
        """One scrape."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "only /metrics is here")
            return
        body = page(type(self).families())
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's name)
        """Nothing: a line for each scrape helps nobody."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Serve until the process is ended; 1 where it cannot begin."""
    args = _arguments(argv)
    volume = Volume(args.models_dir)
    releases = Releases(volume, args.triton)
    traffic = Traffic(releases.has)
    certificate = Certificate(*args.gateway) if args.gateway else None
    try:
        receiver = Receiver(args.host, args.log_port, traffic)
        Handler.families = lambda: [
            *traffic.families(),
            _lost(receiver),
            *releases.families(),
            *([_end(certificate)] if certificate else []),
        ]
        server = ThreadingHTTPServer((args.host, args.port), Handler)
    except OSError as e:
        print(
            f"error: cannot listen on {args.host}, TCP {args.port} and UDP {args.log_port}: {e.strerror}\n"
            "  next: stop what holds the port, or set EXPORTER_PORT or ACCESS_LOG_PORT",
            file=sys.stderr,
        )
        return 1
    receiver.start()
    # As a container's first process it would not hear SIGTERM otherwise, where no init stands before it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"metrics on {args.host}:{server.server_port}, access log on UDP {receiver.port}", flush=True)
    server.serve_forever()
    return 0


def _lost(receiver: Receiver) -> Family:
    family = Family(LOST, "counter", "Lines of the access log that overran the buffer.")
    family.add(receiver.lost())
    return family


def _end(certificate: Certificate) -> Family:
    family = Family(CERTIFICATE_END, "gauge", "When the gateway's certificate ends.")
    end = certificate.not_after()
    if end is not None:
        family.add(end)
    return family


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m monitoring.exporter", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=9105, help="TCP port of /metrics (0: any free one)")
    parser.add_argument("--log-port", type=int, default=5140, help="UDP port for the gateway's access log")
    parser.add_argument("--models-dir", type=Path, required=True, help="the models volume")
    parser.add_argument("--triton", type=_address, required=True, metavar="HOST:PORT", help="Triton's HTTP")
    parser.add_argument("--gateway", type=_address, metavar="HOST:PORT", help="whose certificate to watch")
    return parser.parse_args(argv)


def _address(text: str) -> Tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f'"{text}" is no HOST:PORT')
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
