"""Load on the ``scale`` model that checks every answer: run as a program, stops at SIGTERM.

Arguments: protocol (http or grpc), port or host:port, models volume, clients, seconds that each of them waits
between two requests; behind a gateway also the file of its certificate, and an API key. Prints one JSON
object: requests, failed, wrong, versions (answers by version), first errors. An answer is right when it is
what the version that gave it says it does: its factor and offset are read from its release's golden samples.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

stop = threading.Event()


class Expected:
    """scores = x * factor + offset, by version."""

    def __init__(self, models_dir: Path) -> None:
        self._folder = models_dir / "releases" / "scale"
        self._known: dict[str, tuple[float, float]] = {}

    def scores(self, version: str, x: np.ndarray) -> np.ndarray:
        if version not in self._known:
            with np.load(self._folder / version / "golden.npz") as npz:
                a, b = (
                    npz["input.x"].ravel()[:2].astype(float),
                    npz["output.scores"].ravel()[:2].astype(float),
                )
            factor = (b[1] - b[0]) / (a[1] - a[0])
            self._known[version] = (factor, b[0] - a[0] * factor)
        factor, offset = self._known[version]
        return x * factor + offset


class Http:
    """The plain v2 protocol with binary tensors over one kept connection."""

    def __init__(self, place: str, ca: str, key: str) -> None:
        self._key = {"Authorization": f"Bearer {key}"} if key else {}
        host, _, port = place.rpartition(":")
        host = host or "127.0.0.1"
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)
        if ca:
            context = ssl.create_default_context(cafile=ca)
            self._connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=60)

    def ask(self, x: np.ndarray) -> tuple[str, np.ndarray]:
        header = json.dumps(
            {
                "inputs": [
                    {
                        "name": "x",
                        "datatype": "FP32",
                        "shape": list(x.shape),
                        "parameters": {"binary_data_size": x.nbytes},
                    }
                ],
                "outputs": [{"name": "scores", "parameters": {"binary_data": True}}],
            }
        ).encode()
        self._connection.request(
            "POST",
            "/v2/models/scale/infer",
            header + x.tobytes(),
            {"Inference-Header-Content-Length": str(len(header)), **self._key},
        )
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {body[:200]!r}")
        length = int(answer.headers["Inference-Header-Content-Length"])
        version = json.loads(body[:length])["model_version"]
        return version, np.frombuffer(body[length:], np.float32).reshape(x.shape)


class Grpc:
    def __init__(self, place: str, ca: str, key: str) -> None:
        import tritonclient.grpc as module

        self._module = module
        self._key = {"authorization": f"Bearer {key}"} if key else {}
        self._client = module.InferenceServerClient(
            place if ":" in place else f"{'localhost' if ca else '127.0.0.1'}:{place}",
            ssl=bool(ca),
            root_certificates=ca or None,
        )

    def ask(self, x: np.ndarray) -> tuple[str, np.ndarray]:
        tensor = self._module.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        answer = self._client.infer("scale", [tensor], headers=self._key, client_timeout=60)
        return answer.get_response().model_version, answer.as_numpy("scores")


def client(
    protocol: str,
    place: tuple[str, str, str],
    expected: Expected,
    seed: int,
    pause: float,
    tally: Counter[str],
    errors: list[str],
) -> None:
    connection = Http(*place) if protocol == "http" else Grpc(*place)
    rng = np.random.default_rng(seed)
    while not stop.is_set():
        x = rng.uniform(0, 10, (int(rng.integers(1, 5)), 6)).astype(np.float32)
        tally["requests"] += 1
        try:
            version, scores = connection.ask(x)
        except Exception as e:
            tally["failed"] += 1
            errors.append(f"{type(e).__name__}: {e}")
            stop.wait(0.05)
            if protocol == "http":
                connection = Http(*place)
            continue
        tally[f"version {version}"] += 1
        if scores.shape != x.shape or not np.allclose(scores, expected.scores(version, x), atol=1e-2):
            tally["wrong"] += 1
            errors.append(f"version {version}: wrong answer")
        if pause:
            stop.wait(pause)


def main() -> None:
    protocol, port, models_dir, clients, pause, ca, key = (*sys.argv[1:], "", "")[:7]
    os.nice(5)  # clients of another machine would take no processor from the server and its operator
    # A handler runs within the main thread's own wait, which may hold the event's lock just then: the loop
    # below sees a plain flag.
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    expected, errors = Expected(Path(models_dir)), list[str]()
    tallies = [Counter[str]() for _ in range(int(clients))]
    threads = [
        threading.Thread(
            target=client, args=(protocol, (port, ca, key), expected, n, float(pause), tallies[n], errors)
        )
        for n in range(int(clients))
    ]
    for t in threads:
        t.start()
    print("running", flush=True)
    end = time.monotonic() + 600
    while not told and time.monotonic() < end:
        time.sleep(0.05)
    stop.set()
    for t in threads:
        t.join()
    total = sum(tallies, Counter())
    versions = {k.split()[1]: v for k, v in total.items() if k.startswith("version")}
    print(
        json.dumps(
            {
                "requests": total["requests"],
                "failed": total["failed"],
                "wrong": total["wrong"],
                "versions": versions,
                "errors": errors[:5],
            }
        )
    )


if __name__ == "__main__":
    main()
