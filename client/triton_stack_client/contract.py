"""A model's contract as a server tells it, and arrays checked against it before they travel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from triton_stack_client.errors import ContractError
from triton_stack_client.transport.dlpack import GpuArray
from triton_stack_client.transport.protocol import NAMES, Given


@dataclass(frozen=True)
class Tensor:
    """One tensor of the contract; ``dims`` leave the batch out.

    A free dimension is -1 in ``dims``. Beside it, ``ranges`` has its least, its usual and its largest size;
    they are empty where the server does not say.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    ranges: tuple[tuple[int, int, int] | None, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        ranges = self.ranges or (None,) * len(self.dims)
        dims = [f"{r[0]} to {r[2]}" if r else str(d) for d, r in zip(self.dims, ranges, strict=True)]
        return f"{self.name}: {self.dtype} [n, {', '.join(dims)}]"

    @property
    def usual(self) -> tuple[int, ...]:
        """The dims with every free one at its usual size; -1 stays where that is not known."""
        ranges = self.ranges or (None,) * len(self.dims)
        return tuple(r[1] if r else d for d, r in zip(self.dims, ranges, strict=True))

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a sample of this shape fits."""
        if len(shape) != len(self.dims):
            return False
        ranges = self.ranges or (None,) * len(self.dims)
        return all(
            r[0] <= n <= r[2] if r else d in (-1, n) for n, d, r in zip(shape, self.dims, ranges, strict=True)
        )

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype."""
        return np.dtype(next(n for n, triton in NAMES.items() if triton == self.dtype))

    def nbytes(self, batch: int) -> int:
        """Bytes of ``batch`` samples; raises ContractError where a dimension is free."""
        if -1 in self.dims:
            raise ContractError(f"{self} has no fixed size")
        return batch * self.numpy.itemsize * int(np.prod(self.dims))


@dataclass(frozen=True)
class Contract:
    """What a served model takes and gives.

    Attributes:
        version: the served version that was asked; a redeploy may have replaced it since.
        max_batch: the largest n of [n, *dims].
        weights: where the weights come from, in words; empty when the server does not say.
    """

    model: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch: int
    weights: str

    @classmethod
    def of(cls, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> Contract:
        """From the server's metadata and configuration; raises ContractError for what we cannot serve."""
        model = str(metadata["name"])
        max_batch = int(config.get("max_batch_size", 0))
        if max_batch < 1:
            raise ContractError(
                f"{model} does not batch (max_batch_size {max_batch}); this client needs it to"
            )
        return cls(
            model=model,
            version=max((int(v) for v in metadata.get("versions", [])), default=0),
            inputs=_tensors(model, metadata["inputs"], _ranges(config)),
            outputs=_tensors(model, metadata["outputs"]),
            max_batch=max_batch,
            weights=_parameter(config, "weights"),
        )

    def single(self) -> tuple[Tensor, Tensor]:
        """The one input and the one output; raises ContractError when there are more."""
        if len(self.inputs) == 1 and len(self.outputs) == 1:
            return self.inputs[0], self.outputs[0]
        given = ", ".join(f'"{t.name}": ...' for t in self.inputs)
        got = " and ".join(f'["{t.name}"]' for t in self.outputs)
        raise ContractError(
            f"predict is for one input and one output; {self.model} has the inputs {_names(self.inputs)} "
            f"and the outputs {_names(self.outputs)}",
            remedy=f"answer = model.infer({{{given}}}), then answer{got}",
        )

    def check(self, inputs: Mapping[str, Given]) -> dict[str, Given]:
        """The arrays as they can travel, copied only where one is not contiguous. On a GPU they all are.

        Raises:
            ContractError: a name, dtype or shape is not the model's. Nothing is converted silently.
        """
        wanted = {t.name: t for t in self.inputs}
        if set(inputs) != set(wanted):
            raise ContractError(
                f"{self.model} takes {_names(self.inputs)}; given were {', '.join(inputs) or 'none'}"
            )
        sizes = set()
        for name, array in inputs.items():
            tensor = wanted[name]
            if (
                not isinstance(array, np.ndarray | GpuArray)
                or array.dtype != tensor.numpy
                or not tensor.takes(array.shape[1:])
            ):
                raise ContractError(f"{self.model} takes {tensor}; given was {_describe(array)}")
            sizes.add(array.shape[0])
        if len(sizes) != 1 or not 1 <= min(sizes) <= self.max_batch:
            found = " and ".join(map(str, sorted(sizes)))
            raise ContractError(
                f"{self.model} takes 1 to {self.max_batch} samples at once; given were {found}"
            )
        return {
            name: np.ascontiguousarray(array) if isinstance(array, np.ndarray) else array
            for name, array in inputs.items()
        }


def ranges_of(entries: list[dict[str, int] | None] | None) -> tuple[tuple[int, int, int] | None, ...]:
    """A tensor's ranges as the builder writes them, in a manifest and in a model's configuration."""
    return tuple((int(r["min"]), int(r["opt"]), int(r["max"])) if r else None for r in entries or ())


def _ranges(config: Mapping[str, Any]) -> dict[str, tuple[tuple[int, int, int] | None, ...]]:
    """By input, what the builder wrote into the model's configuration; another server has nothing there."""
    try:
        told = json.loads(_parameter(config, "ranges") or "{}")
        return {str(name): ranges_of(entries) for name, entries in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _parameter(config: Mapping[str, Any], key: str) -> str:
    value = config.get("parameters", {}).get(key, {})
    return str(value.get("string_value", value.get("stringValue", "")))


def _tensors(
    model: str,
    entries: list[dict[str, Any]],
    ranges: Mapping[str, tuple[tuple[int, int, int] | None, ...]] | None = None,
) -> tuple[Tensor, ...]:
    tensors = tuple(
        Tensor(e["name"], e["datatype"], tuple(e["shape"][1:]), (ranges or {}).get(e["name"], ()))
        for e in entries
    )
    for tensor in tensors:
        if tensor.dtype not in NAMES.values():
            raise ContractError(f"{model} has {tensor}; this client speaks {', '.join(NAMES.values())}")
    return tensors


def _names(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(t.name for t in tensors)


def _describe(array: Any) -> str:
    if isinstance(array, np.ndarray | GpuArray):
        where = "" if isinstance(array, np.ndarray) else " on a GPU"
        return f"{array.dtype} {list(array.shape)}{where}"
    name = type(array).__name__
    return f"{name} (numpy.from_dlpack makes an array of it)" if hasattr(array, "__dlpack__") else name
