"""State dicts of PyTorch, read without it: every layout, both formats, and nothing that could run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.torch_file import Storage, Tensor, dumped, write_old, write_zip

from builder.errors import SourceError
from builder.export import state_dict

Write = Callable[..., None]
FORMATS = pytest.mark.parametrize("write", [write_old, write_zip])


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as error:
        state_dict.read(path)
    assert str(path) in str(error.value)
    return str(error.value)


@FORMATS
def test_tensors_come_in_their_own_order_whatever_lies_in_the_file(tmp_path: Path, write: Write) -> None:
    wanted = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    shared = Storage("1", np.arange(100, dtype=np.float32))
    state = {
        "plain": Tensor(Storage("0", wanted.ravel()), (2, 3, 4), (12, 4, 1)),
        # As a weight that TensorFlow had: the elements lie in another order than the tensor's.
        "turned": Tensor(Storage("2", wanted.transpose(2, 0, 1).ravel()), (2, 3, 4), (3, 1, 6)),
        "view": Tensor(shared, (3, 2), (10, 2), 7),
        "spread": Tensor(shared, (2, 5), (0, 1), 50),
        "count": Tensor(Storage("3", np.array([41, 42])), (), (), 1),
        "none": Tensor(shared, (0, 4), (4, 1)),
        "half": Tensor(Storage("4", np.array([0.5, 2], np.float16)), (2,), (1,)),
    }
    write(tmp_path / "w.pth", state)
    found = state_dict.read(tmp_path / "w.pth")
    assert list(found) == list(state)
    np.testing.assert_array_equal(found["plain"], wanted)
    np.testing.assert_array_equal(found["turned"], wanted)
    assert found["turned"].flags.c_contiguous
    assert found["view"].tolist() == [[7, 9], [17, 19], [27, 29]]
    assert found["spread"].tolist() == [[50, 51, 52, 53, 54]] * 2
    assert (found["count"].shape, int(found["count"])) == ((), 42)
    assert found["none"].shape == (0, 4)
    assert found["half"].dtype == np.float16


@FORMATS
@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((5,), (1,), 96), ((2, 51), (50, 1), 0), ((2,), (-1,), 5), ((2,), (1, 1), 0), ((2**40,), (0,), 0)],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, write: Write, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    """With NumPy's strides alone it would read somebody else's memory."""
    write(tmp_path / "w.pth", {"w": Tensor(Storage("0", np.zeros(100, np.float32)), size, stride, offset)})
    assert "a tensor" in refusal(tmp_path / "w.pth")


class Runs:
    """A pickle of it would run a command when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.mark}",)


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "mark"
    path.write_bytes(dumped(Runs(mark)))
    pickle.loads(path.read_bytes())  # noqa: S301  (that is the point)
    assert mark.exists(), "it does run with the reader that everybody has"
    mark.unlink()
    assert "posix.system, which is no part of a state dict" in refusal(path)
    assert not mark.exists()


@FORMATS
def test_damaged_files_are_refused(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "w.pth"
    write(path, {"w": Tensor(Storage("0", np.zeros(1000, np.float32)), (1000,), (1,))})
    whole = path.read_bytes()
    for size in (0, 10, 40, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        assert "cannot be read as a PyTorch state dict" in refusal(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"hello\n" * 100)
    refusal(path)
    tensor = Tensor(Storage("0", np.zeros(4, np.float32)), (4,), (1,))
    write_zip(path, {"w": tensor}, byteorder="big")
    assert "big-endian" in refusal(path)
    write_old(path, {"w": tensor}, magic=5)
    assert "another format" in refusal(path)
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("archive/data.pkl", dumped({"epoch": 3, "model": {"w": tensor}}))
    assert "'epoch' is no tensor" in refusal(path)
    write_zip(path, {})
    assert "holds no tensors by name" in refusal(path)
