"""A real trained model: a Keras CNN on scikit-learn's digits, with a spec of its own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from support.stack import ROOT

VENVS = Path(os.environ.get("VENVS_DIR") or ROOT / ".venvs")


@dataclass(frozen=True)
class Digits:
    """``images`` UINT8 [360, 8, 8, 1] and ``labels`` [360] were held out; ``keras_scores`` [360, 10]."""

    spec: Path
    images: np.ndarray
    labels: np.ndarray
    keras_scores: np.ndarray

    @property
    def keras_accuracy(self) -> float:
        return float((self.keras_scores.argmax(1) == self.labels).mean())


def train(folder: Path) -> Digits:
    """Train it (some 15 seconds) and describe it by a spec."""
    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)[..., None]
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    np.savez(folder / "data.npz", train_x=train_x, train_y=train_y, test_x=test_x)
    np.save(folder / "samples.npy", train_x[:32])
    (folder / "labels.txt").write_text("".join(f"digit {n}\n" for n in range(10)))
    subprocess.run(
        [
            VENVS / "builder" / "bin" / "python3",
            ROOT / "tests" / "support" / "train_digits.py",
            folder / "data.npz",
            folder / "digits.keras",
            folder / "scores.npy",
        ],
        check=True,
        capture_output=True,
    )
    spec = folder / "digits.yaml"
    spec.write_text(
        yaml.safe_dump(
            {
                "name": "digits",
                "source": {"keras": "digits.keras"},
                "inputs": [
                    {
                        "name": "pixels",
                        "dtype": "UINT8",
                        "dims": [8, 8, 1],
                        "preprocessing": {"mode": "unit", "where": "graph"},
                        "samples": {"file": "samples.npy"},
                    }
                ],
                "outputs": [{"name": "scores", "dtype": "FP32", "dims": [10], "labels": "labels.txt"}],
                "batch": {"max": 32},
            },
            sort_keys=False,
        )
    )
    return Digits(spec, test_x, test_y, np.load(folder / "scores.npy"))
