"""What classifying with a model means: which input takes the pixels, how prepared, which output scores."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models_volume.preprocessing import Preprocessing
from triton_stack_client import model_choice
from triton_stack_client.classify.answer import Label
from triton_stack_client.contract import Contract, Tensor
from triton_stack_client.errors import ClientError, ContractError, ReleaseError, ServerError
from triton_stack_client.transport.address import Address
from triton_stack_client.transport.protocol import Connection
from triton_stack_client.verify import release

_UNTRAINED = "UNTRAINED"  # how the builder's description of such weights begins


@dataclass(frozen=True)
class Task:
    """A model that classifies pictures.

    Attributes:
        pixels, scores: the input [height, width, channels] and the output [classes]. Where height and width
            are free, pictures are brought to their usual size, the spec's ``opt``.
        preprocessing: to be done by us; None when pixels go as they are.
        labels: a name for each class; empty when they could not be had.
        weights: where they come from, in words; empty when unknown.
    """

    contract: Contract
    pixels: Tensor
    scores: Tensor
    min_batch: int
    preprocessing: Preprocessing | None
    labels: tuple[str, ...]
    weights: str
    untrained: bool

    def label(self, number: int) -> str:
        """A class's name, or its number where names are not known."""
        return self.labels[number] if self.labels else f"class {number}"

    def best(self, scores: np.ndarray, top: int) -> tuple[Label, ...]:
        """Of one picture's scores [classes], the ``top`` classes, best first."""
        best = np.argsort(-scores.astype(np.float64), kind="stable")[:top]
        return tuple(Label(int(n), self.label(int(n)), float(scores[n])) for n in best)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels UINT8 [height, width, channels] in the input's dtype."""
        ready = self.preprocessing.apply(pixels) if self.preprocessing else pixels
        return ready.astype(self.pixels.numpy, copy=False)


def find(name: str, where: Address, models_dir: Path | None, timeout: float) -> Task:
    """A served model's task: as released where ``models_dir`` holds the release, else as the server tells.

    Raises:
        ContractError: it does not classify pictures, or not without its release.
        ServerError: the server does not answer, or does not know the model.
    """
    connection = Connection(where.protocol, where.host_port, timeout)
    try:
        connection.live()  # a server that is not there at all is said at once, not after the timeout
        contract = Contract.of(connection.metadata(name), connection.config(name))
        task = from_volume(models_dir, contract) if models_dir else None
        return task or from_server(connection, contract)
    finally:
        connection.close()


def from_volume(models_dir: Path, contract: Contract) -> Task | None:
    """The task as released; None when this volume does not hold the version that is served.

    Raises:
        ContractError: it does not classify pictures, or the volume's release is another model.
    """
    try:
        found = release.read(models_dir, contract.model, contract.version)
    except ReleaseError:
        return None
    if (found.inputs, found.outputs) != (contract.inputs, contract.outputs):
        raise ContractError(
            f"{found.folder} is not what the server serves as {contract.model} version {contract.version}",
            remedy="MODELS_DIR (or --models-dir) names another server's volume",
        )
    pixels, scores = _tensors(contract, list(found.labels))
    labels: tuple[str, ...] = ()
    if scores.name in found.labels:
        labels = tuple(found.labels[scores.name].read_text("utf-8").splitlines())
    return Task(
        contract=contract,
        pixels=pixels,
        scores=scores,
        min_batch=found.min_batch,
        preprocessing=found.preprocessing.get(pixels.name),
        labels=labels,
        weights=found.weights,
        untrained=found.untrained,
    )


def from_server(connection: Connection, contract: Contract) -> Task:
    """The task as far as the server itself tells it.

    Labels come from Triton's classification extension, which knows them for FP32 outputs.

    Raises:
        ContractError: it does not classify pictures, or its input needs preprocessing that a server
            does not describe.
    """
    pixels, scores = _tensors(contract, [])
    if pixels.dtype != "UINT8":
        raise ContractError(
            f"{contract.model} takes {pixels}: how pixels become that is not known to the server, "
            "only to the model's release",
            remedy="name the models volume that the server serves (--models-dir, or MODELS_DIR)",
        )
    return Task(
        contract=contract,
        pixels=pixels,
        scores=scores,
        min_batch=1,
        preprocessing=None,
        labels=_labels(connection, contract, pixels, scores),
        weights=contract.weights,
        untrained=contract.weights.startswith(_UNTRAINED),
    )


def _labels(connection: Connection, contract: Contract, pixels: Tensor, scores: Tensor) -> tuple[str, ...]:
    count = scores.dims[0]
    blank = {pixels.name: np.zeros((1, *pixels.usual), pixels.numpy)}
    try:
        rows = connection.classes(contract.model, blank, scores.name, count)
    except ServerError as e:
        if e.refused:
            return ()  # FP16 scores, or a model with a larger smallest batch: it cannot say
        raise
    named = {}
    for row in rows:
        _, number, *label = row.split(":", 2)
        named[int(number)] = label[0] if label else ""
    return tuple(named[n] for n in range(count)) if len(named) == count and all(named.values()) else ()


def _tensors(contract: Contract, labelled: list[str]) -> tuple[Tensor, Tensor]:
    pictures = [t for t in contract.inputs if len(t.dims) == 3 and t.dims[2] in (1, 3) and t.dtype != "INT32"]
    if len(contract.inputs) != 1 or not pictures:
        found = "; ".join(map(str, contract.inputs))
        raise ContractError(
            f"{contract.model} takes {found}: a picture is one input [n, height, width, 1 or 3]"
        )
    if -1 in pictures[0].usual:
        raise ContractError(
            f"{contract.model} takes pictures of any size, and does not say of which size it wants them",
            remedy="serve a release that the builder made: it says so",
        )
    scores = [t for t in contract.outputs if len(t.dims) == 1 and t.name in labelled]
    scores = scores or [t for t in contract.outputs if len(t.dims) == 1 and t.dims[0] > 1]
    if not scores:
        found = "; ".join(map(str, contract.outputs))
        raise ContractError(f"{contract.model} gives {found}: scores are an output [n, classes]")
    return pictures[0], scores[0]


def only_live(models_dir: Path | None, where: Address, timeout: float) -> str:
    """The model that is meant when none is named: the only live one, by the volume or else by the server.

    Raises:
        ClientError: several are live, or none; or the server, which has to be asked, does not answer.
    """
    live: list[str] = []
    with suppress(ReleaseError):  # no volume of this server here, or nothing on it
        live = [r.model for r in release.live(models_dir)] if models_dir else []
    if not live:
        live = _served(where, timeout)
    if not live:
        raise ClientError(
            f"{where.protocol} {where.host_port}: the server has no model that is ready",
            remedy="./scripts/up builds and serves one",
        )
    return model_choice.only(live)


def _served(where: Address, timeout: float) -> list[str]:
    """The models that the server has ready."""
    connection = Connection(where.protocol, where.host_port, timeout)
    try:
        return sorted({row["name"] for row in connection.index() if row.get("state") == "READY"})
    finally:
        connection.close()
