"""Keeps HAProxy running with what is live: the one place that knows when something has changed.

Twice a second it looks at the models volume, the keys and the certificate. Keys and contracts go into the
running process, and so do servers that come and go, and canaries' shares; only another set of models,
certificate or buffer is a reload. What cannot be read is reported once, and what held before goes on to hold.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Dict, Iterable, List

from gateway import certificate, configuration, contract, keys, shares
from gateway.configuration.files import CERTIFICATE, CONFIG, CONTRACTS, KEYS, LIMITS, SERVERS, SHADOWS, SHARES
from gateway.contract import Contract
from gateway.discovery import Discovery
from gateway.errors import GatewayError
from gateway.haproxy import Haproxy, Rows, program
from gateway.log_address import LogAddress
from gateway.options import Options
from gateway.pool import Pool
from gateway.servers import READY, Line, commands, lines, names
from models_volume import traffic
from models_volume.errors import VolumeError
from models_volume.layout import Volume
from models_volume.traffic import Canary

_LOOK = 0.5  # seconds between two looks
_SELDOM = 5.0  # seconds between two looks at the certificate
_OWN_CERTIFICATE = "own.pem"


class Supervisor:
    """HAProxy and what it is made from; ``options.folder`` must be the working folder."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._volume = Volume(options.volume)
        self._cache: contract.Cache = {}
        # A server may answer with the former release until it has seen and loaded the new one.
        self._accepted = contract.Accepted(2 * options.poll_secs + options.load_secs + 60)
        self._haproxy = Haproxy(program(options.haproxy), options.folder)
        self._maps: Dict[str, Rows] = {}
        self._certificate = b""
        self._certificate_due = 0.0
        self._log_address = LogAddress(options.log_to)
        self._log_to = ""  # what the configuration has of it: one for a whole look
        self._config = ""  # without what changes in the running process
        self._discovery = Discovery(options.servers)
        self._pool = Pool(options.servers)
        self._canaries: Dict[str, Canary] = {}
        self._lines: Dict[str, Line] = {}
        self._said: Dict[str, str] = {}

    def start(self) -> None:
        """Write everything and start HAProxy; raises GatewayError."""
        self._log_address.start()
        self._log_to = self._log_address.now
        models = self._models()
        self._discovery.models = frozenset(models)
        self._discovery.look()
        self._look_at_servers()
        self._maps = {KEYS: keys.rows(keys.read(self._options.keys)), **self._wanted_maps(models)}
        for name, rows in self._maps.items():
            _write(Path(name), _lines(rows))
        self._certificate = self._wanted_certificate()
        _write(Path(CERTIFICATE), self._certificate.decode("ascii", "replace"))
        self._write_config(models)
        self._haproxy.start()
        self._discovery.start()
        _say(
            f"the gateway listens on {self._options.address}:{self._options.port} for "
            f"{', '.join(models) or 'no model yet'}; {len(self._maps[KEYS])} keys"
        )

    def look(self) -> None:
        """Bring HAProxy up to date. What cannot be taken is reported, and keeps nothing else back."""
        if not self._haproxy.alive():
            raise SystemExit("HAProxy has ended")
        for what, follow in (
            ("keys", self._follow_keys),
            ("certificate", self._follow_certificate),
            ("models", self._follow_models),
        ):
            try:
                follow()
            except (GatewayError, OSError) as e:
                self._report(what, str(e))
            else:
                self._report(what, "")

    def end(self) -> None:
        """Let requests in flight end, and HAProxy."""
        _say("draining")
        self._haproxy.drain(self._options.drain_secs)

    def _follow_keys(self) -> None:
        self._change({KEYS: keys.rows(keys.read(self._options.keys))})

    def _follow_certificate(self) -> None:
        if time.monotonic() < self._certificate_due:
            return
        self._certificate_due = time.monotonic() + _SELDOM
        wanted = self._wanted_certificate()
        if wanted == self._certificate:
            return
        fresh = f"{CERTIFICATE}.new"
        _write(Path(fresh), wanted.decode("ascii", "replace"))
        self._check(self._config.replace(f" crt {CERTIFICATE} ", f" crt {fresh} "))
        Path(fresh).replace(CERTIFICATE)
        self._certificate = wanted
        self._haproxy.reload()
        _say("reloaded: another certificate")

    def _follow_models(self) -> None:
        self._log_to = self._log_address.now
        models = self._models()
        self._discovery.models = frozenset(models)
        self._look_at_servers()
        if self._wanted_config(models) == self._config:
            self._change(self._wanted_maps(models))
            self._tell(models)
            return
        # The new worker reads the maps from their files.
        for name, rows in self._wanted_maps(models).items():
            _write(Path(name), _lines(rows))
            self._maps[name] = rows
        self._write_config(models)
        self._haproxy.reload()
        _say("reloaded: " + (", ".join(models) or "no model"))

    def _look_at_servers(self) -> None:
        """Which there are, which of them leave, and which are canaries."""
        busy = self._haproxy.busy() if self._pool.draining() else ()
        before = {s.place: s for s in self._pool.servers if s.slot and s.state == READY}
        self._pool.update(self._discovery.found, busy)
        after = {s.place: s for s in self._pool.servers if s.slot and s.state == READY}
        for word, places in (("new server", after.keys() - before), ("drains", before.keys() - after)):
            for place in sorted(places):
                _say(f"{word}: {place}")
        for name in [s.host for s in self._options.servers if s.dns]:
            self._report(
                f"name {name}", self._discovery.problems.get(name, ""), f"{name} cannot be looked up: "
            )
        try:
            self._canaries = traffic.read(self._volume)
            self._report("traffic", "")
        except VolumeError as e:
            self._canaries = {}
            self._report("traffic", str(e), "no canary: ")

    def _tell(self, models: Iterable[str]) -> None:
        """Change what differs of the servers in the running process."""
        wanted = self._wanted_lines(models)
        told = commands(self._lines, wanted)
        if told:
            self._haproxy.tell(told)
        self._lines = wanted

    def _wanted_lines(self, models: Iterable[str]) -> Dict[str, Line]:
        return lines(models, self._pool.servers, shares.without_weight(self._canaries, self._splits(models)))

    def _splits(self, models: Iterable[str]) -> Dict[str, shares.Split]:
        return shares.splits(self._canaries, models, self._pool.servers)

    def _wanted_maps(self, models: Dict[str, List[Contract]]) -> Dict[str, Rows]:
        return {
            **_maps(models),
            SERVERS: names(self._pool.servers),
            SHARES: shares.rows(self._canaries, self._splits(models)),
            SHADOWS: shares.shadow_rows(self._canaries, self._splits(models)),
        }

    def _write_config(self, models: Dict[str, List[Contract]]) -> None:
        """Write the configuration as all is now; raises GatewayError where HAProxy does not take it."""
        canaries = shares.without_weight(self._canaries, self._splits(models))
        buffer = contract.buffer_bytes(models, self._options.buffer)
        whole = configuration.text(self._options, models, buffer, self._log_to, self._pool.servers, canaries)
        self._check(whole)
        _write(Path(CONFIG), whole)
        self._config = self._wanted_config(models)
        self._lines = self._wanted_lines(models)

    def _report(self, what: str, problem: str, words: str = "") -> None:
        """Say a problem once, until it is another or none."""
        if problem and self._said.get(what) != problem:
            _say(f"warning: {words}{problem}")
        self._said[what] = problem

    def _change(self, maps: Dict[str, Rows]) -> None:
        """Change what differs in these maps in the running process, and in their files for the next one."""
        for name, rows in maps.items():
            if rows != self._maps[name]:
                _write(Path(name), _lines(rows))
                self._haproxy.change(name, rows)
                self._maps[name] = rows
                _say(f"{name}: {len(rows)} entries")

    def _check(self, config: str) -> None:
        fresh = f"{CONFIG}.new"
        _write(Path(fresh), config)
        self._haproxy.check(fresh)

    def _models(self) -> Dict[str, List[Contract]]:
        return self._accepted.update(contract.live(self._volume, self._cache), time.monotonic())

    def _wanted_config(self, models: Dict[str, List[Contract]]) -> str:
        buffer = contract.buffer_bytes(models, self._options.buffer)
        return configuration.text(self._options, models, buffer, self._log_to, self._pool.blank())

    def _wanted_certificate(self) -> bytes:
        options = self._options
        return certificate.pem(options.certificate, options.folder / _OWN_CERTIFICATE, options.address)


def run(options: Options) -> int:
    """Run until SIGTERM or SIGINT; 0 after draining. Raises GatewayError when it cannot start."""
    options.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chdir(options.folder)
    stopping: List[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: stopping.append(got))
    supervisor = Supervisor(options)
    supervisor.start()
    try:
        while not stopping:
            supervisor.look()
            time.sleep(_LOOK)
    finally:
        supervisor.end()
    return 0


def _maps(models: Dict[str, List[Contract]]) -> Dict[str, Rows]:
    """The maps that follow from the contracts."""
    return {
        CONTRACTS: [(name, contract.gate_text(c)) for name, c in sorted(models.items())],
        LIMITS: [(name, str(contract.grpc_bytes(c))) for name, c in sorted(models.items())],
    }


def _lines(rows: Rows) -> str:
    return "".join(f"{key} {value}\n" for key, value in rows)


def _write(path: Path, text: str) -> None:
    """Replace a file of ours, readable by this user alone."""
    fresh = path.with_name(f".{path.name}.new")
    with os.fdopen(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
    fresh.replace(path)


def _say(words: str) -> None:
    with contextlib.suppress(OSError):  # a log on a full disk: requests are answered all the same
        print(words, file=sys.stderr, flush=True)
