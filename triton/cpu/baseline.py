"""The local baseline: a release's model run by onnxruntime directly, as its server runs it.

Run by the Python of the server's environment (triton/requirements.txt), with the server's own session
settings. Answers lines of JSON on standard input with lines of JSON:

    {"model": "model.onnx", "config": {...}, "golden": "golden.npz"}  ->  {"threads": 2, "version": "1.31.1"}
    {"batch": 1, "requests": 50}                                      ->  {"seconds": [0.031, ...]}
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).parent / "backend"))
# models_volume lies beside triton/ in the repository, and beside cpu/ in the server's image.
sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
import session

from models_volume import golden as files


class Local:
    """A loaded model and inputs to feed it."""

    def __init__(self, model: str, config: Dict[str, Any], golden: str) -> None:
        self._session = session.load(model, config)
        inputs, _ = files.load(Path(golden))
        self._inputs = {i.name: inputs[i.name] for i in self._session.get_inputs()}

    def run(self, batch: int, requests: int) -> List[float]:
        """The seconds of each of ``requests`` runs of ``batch`` samples, one after another."""
        count = len(next(iter(self._inputs.values())))
        rows = np.arange(batch) % count
        feed = {name: np.ascontiguousarray(array[rows]) for name, array in self._inputs.items()}
        seconds = []
        for _ in range(requests):
            began = time.perf_counter()
            self._session.run(None, feed)
            seconds.append(time.perf_counter() - began)
        return seconds


def main() -> None:
    """Serve standard input until it ends."""
    first = json.loads(sys.stdin.readline())
    local = Local(**first)
    facts = {"threads": session.threads(first["config"]), "version": onnxruntime.__version__}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": local.run(**json.loads(line))}), flush=True)


if __name__ == "__main__":
    main()
