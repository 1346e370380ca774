"""HAProxy as a whole: the sections global and defaults, and the page of its own metrics."""

from __future__ import annotations

import resource
from pathlib import Path

from gateway.configuration.answers import ERRORS
from gateway.configuration.files import ADMIN
from gateway.configuration.limits import BODY_SECS, HEADER_BYTES, RETRIES, SERVER_SECS
from gateway.options import Options

LUA = Path(__file__).resolve().parents[1] / "lua"


def process(options: Options, buffer: int, log_to: str) -> str:
    """The section global; the arguments are those of ``document.text``."""
    # A body whose length is not announced is complete when it leaves room in the buffer: HAProxy waits
    # until the buffer is full or the body ends. maxrewrite is kept free for the headers that are added.
    return f"""# Written by the gateway; changes here are lost.
global
    maxconn {_connections()}
    hard-stop-after {options.drain_secs + options.wait_secs + SERVER_SECS}s
    stats socket unix@{ADMIN} mode 600 level admin expose-fd listeners
    log stdout len 8192 format raw local0
{f"    log {log_to} len 8192 format raw local0" if log_to else ""}
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
    ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20
    tune.bufsize {buffer}
    # Buffers that a thread keeps: without this, HAProxy asks the kernel for each large one.
.if version_atleast(2.8)
    tune.memory.hot-size {16 * buffer}
.endif
    tune.maxrewrite {HEADER_BYTES}
    tune.http.maxhdr 64
    # A picture's pixels in one go: with HTTP/2's own 64 KiB a client waits for us three times.
    tune.h2.initial-window-size 1048576
    tune.h2.max-concurrent-streams 100
    tune.ssl.default-dh-param 2048
    lua-prepend-path {LUA}/?.lua
    lua-load-per-thread {LUA}/gate.lua
    lua-load-per-thread {LUA}/hold.lua
    lua-load-per-thread {LUA}/share.lua
    lua-load-per-thread {LUA}/shadow.lua
    set-var proc.room int({buffer - HEADER_BYTES - 1024})
"""


def _connections() -> int:
    """Connections of clients at once: each takes two files, and HAProxy does not start without them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if hard == resource.RLIM_INFINITY else max(64, min(4096, (hard - 256) // 2))


def defaults() -> str:
    """Timeouts, and when a request is sent again."""
    # Inference can be asked for again, and where nobody answered, it is: a Triton that is told to stop
    # resets new connections. But a request that ends servers must not end all of them, so it is sent a few
    # times at most.
    lines = [
        "defaults",
        "    mode http",
        "    log global",
        "    timeout connect 1s",
        f"    timeout http-request {BODY_SECS}s",
        "    timeout http-keep-alive 300s",
        f"    timeout client {BODY_SECS}s",
        f"    timeout server {SERVER_SECS}s",
        "    timeout queue 30s",
        "    timeout tunnel 10s",
        "    option http-ignore-probes",
        "    option http-restrict-req-hdr-names delete",
        # During a reload, an idle connection ends with its next answer, never under a request on its way.
        "    option idle-close-on-response",
        "    http-reuse always",
        "    retry-on conn-failure empty-response",
        f"    retries {RETRIES}",
        "    option redispatch 1",
    ]
    for status, words in ERRORS.items():
        answer = '{"error":"' + words + '"}'
        lines.append(f"    http-error status {status} content-type application/json string '{answer}'")
    return "\n".join(lines) + "\n"


def metrics(options: Options) -> str:
    """HAProxy's own metrics, and ``/healthz``, in plain HTTP."""
    return f"""frontend metrics
    bind {options.metrics_address}:{options.metrics_port}
    no log
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request return status 200 content-type text/plain string ok if {{ path /healthz }}
    http-request return status 404 content-type text/plain string "only /metrics and /healthz"
"""
