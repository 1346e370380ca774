"""A model's contract as a server tells it, and arrays checked against it before they travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from triton_stack_client.errors import ContractError
from triton_stack_client.transport.protocol import NAMES, Arrays


@dataclass(frozen=True)
class Tensor:
    """One tensor of the contract; ``dims`` leave the batch out."""

    name: str
    dtype: str
    dims: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [n, {', '.join(map(str, self.dims))}]"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype."""
        return np.dtype(next(n for n, triton in NAMES.items() if triton == self.dtype))

    def nbytes(self, batch: int) -> int:
        """Bytes of ``batch`` samples."""
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
        weights = config.get("parameters", {}).get("weights", {})
        return cls(
            model=model,
            version=max((int(v) for v in metadata.get("versions", [])), default=0),
            inputs=_tensors(model, metadata["inputs"]),
            outputs=_tensors(model, metadata["outputs"]),
            max_batch=max_batch,
            weights=str(weights.get("string_value", weights.get("stringValue", ""))),
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

    def check(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """The arrays as they can travel, copied only where one is not contiguous.

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
                not isinstance(array, np.ndarray)
                or array.dtype != tensor.numpy
                or array.shape[1:] != tensor.dims
            ):
                raise ContractError(f"{self.model} takes {tensor}; given was {_describe(array)}")
            sizes.add(len(array))
        if len(sizes) != 1 or not 1 <= min(sizes) <= self.max_batch:
            found = " and ".join(map(str, sorted(sizes)))
            raise ContractError(
                f"{self.model} takes 1 to {self.max_batch} samples at once; given were {found}"
            )
        return {name: np.ascontiguousarray(array) for name, array in inputs.items()}


def _tensors(model: str, entries: list[dict[str, Any]]) -> tuple[Tensor, ...]:
    tensors = tuple(Tensor(e["name"], e["datatype"], tuple(e["shape"][1:])) for e in entries)
    for tensor in tensors:
        if tensor.dtype not in NAMES.values():
            raise ContractError(f"{model} has {tensor}; this client speaks {', '.join(NAMES.values())}")
    return tensors


def _names(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(t.name for t in tensors)


def _describe(array: Any) -> str:
    if isinstance(array, np.ndarray):
        return f"{array.dtype} {list(array.shape)}"
    return type(array).__name__
