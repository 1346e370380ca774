"""The model spec: the one place where names, types, shapes and limits are written.

``load`` reads and checks a YAML file; everything else (trtexec's arguments, ``config.pbtxt``, the
manifest, the smoke test's requests) is derived from the ``Spec`` it returns.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from builder.errors import SpecError
from builder.spec.dtypes import DTYPES, DType
from builder.spec.yamlnode import Node
from models_volume.preprocessing import MODES, Preprocessing

MODELS = Path(__file__).parents[1] / "models"
# Both TensorRT 8.5's ONNX parser and tf2onnx 1.16 read and write these (TensorRT 8.5 release notes:
# opset up to 17; tf2onnx names no op set below 13 as supported any more).
OPSETS = (13, 17)
# A model is a directory of Triton's repository and a symlink of ours: no dots, no slashes.
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# trtexec splits its arguments at ":" and ",".
_TENSOR_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# TensorRT's own limits for a tensor are 8 dimensions, one of which is the batch, and 2**31 - 1 elements.
_MAX_RANK = 7
_MAX_ELEMENTS = 2**31 - 1


@dataclass(frozen=True)
class Weights:
    """Where a ``keras.applications`` model's weights come from.

    Attributes:
        kind: "imagenet" (Keras downloads them, or has them), "file", or "untrained".
        seed: of the untrained weights.
    """

    kind: str
    path: Optional[Path] = None
    sha256: Optional[str] = None
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        kind: "application" (a name in keras.applications), "keras" (a .keras file), "saved_model" (a
            folder) or "onnx" (already exported, with its golden samples).
    """

    kind: str
    name: str
    path: Optional[Path] = None
    sha256: Optional[str] = None
    weights: Optional[Weights] = None
    golden: Optional[Path] = None


@dataclass(frozen=True)
class Samples:
    """How an input's golden samples are made: "image", "uniform" in [low, high), or a "file" (.npy)."""

    kind: str
    low: float = 0.0
    high: float = 1.0
    path: Optional[Path] = None


@dataclass(frozen=True)
class Input:
    """An input tensor; ``dims`` leave the batch out.

    ``preprocess_where`` is "graph" (the exported model does it), "client" (whoever sends requests
    does) or "" without preprocessing. ``tensor`` is the name in the source model, where it differs.
    """

    name: str
    dtype: DType
    dims: Tuple[int, ...]
    samples: Samples
    tensor: Optional[str] = None
    preprocessing: Optional[Preprocessing] = None
    preprocess_where: str = ""


@dataclass(frozen=True)
class Output:
    """An output tensor; ``dims`` leave the batch out, ``labels`` is a file with a class name per line."""

    name: str
    dtype: DType
    dims: Tuple[int, ...]
    tensor: Optional[str] = None
    labels: Optional[Path] = None


@dataclass(frozen=True)
class Batch:
    """The optimization profile: 1 <= min <= opt <= max."""

    min: int
    opt: int
    max: int

    def sizes(self) -> List[int]:
        """The profile's sizes, each once, ascending."""
        return sorted({self.min, self.opt, self.max})


@dataclass(frozen=True)
class Serving:
    """How Triton runs the model: instances by device, and the dynamic batcher's queue delay.

    ``max_queue_delay_us`` None means no dynamic batching.
    """

    gpu_instances: int
    cpu_instances: int
    max_queue_delay_us: Optional[int]
    preferred_batch_sizes: Tuple[int, ...]
    warmup: bool


@dataclass(frozen=True)
class Parity:
    """The gate: how many golden samples from which seed, and the tolerances.

    ``top1`` is the least share of samples whose arg max agrees; ``max_abs`` the largest difference of
    any element, in the output's own unit.
    """

    samples: int
    seed: int
    top1: float
    max_abs: float


@dataclass(frozen=True)
class Spec:
    """A checked model spec."""

    file: Path
    name: str
    description: str
    source: Source
    inputs: Tuple[Input, ...]
    outputs: Tuple[Output, ...]
    batch: Batch
    precision: str
    opset: int
    trtexec_args: Tuple[str, ...]
    serving: Serving
    parity: Parity

    def as_json(self) -> Dict[str, Any]:
        """The spec as plain data, for the fingerprint and the manifest; paths by name, never by place."""

        def plain(value: Any) -> Any:
            if isinstance(value, DType):
                return value.name
            if isinstance(value, Path):
                return value.name
            if dataclasses.is_dataclass(value):
                return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
            if isinstance(value, (list, tuple)):
                return [plain(v) for v in value]
            return value

        data: Dict[str, Any] = plain(self)
        del data["file"]
        return data


def find(name_or_file: str) -> Path:
    """The spec file that ``up --model`` means: a file's path, or the name of a spec we ship.

    Raises:
        SpecError: there is neither.
    """
    shipped = MODELS / f"{name_or_file}.yaml"
    if shipped.is_file():
        return shipped
    path = Path(name_or_file)
    if path.is_file():
        return path
    names = ", ".join(sorted(p.stem for p in MODELS.glob("*.yaml")))
    raise SpecError(
        f'model "{name_or_file}": there is no such spec', expected=f"one of {names}, or a spec file's path"
    )


def load(file: Path) -> Spec:
    """Read and check the spec in ``file``; raises SpecError with the path of the first thing wrong."""
    top = Node.load(file).mapping(
        required=("name", "source", "inputs", "outputs", "batch"),
        optional=("description", "precision", "opset", "trtexec_args", "serving", "parity"),
    )
    source = _source(top["source"])
    inputs = tuple(_input(n, exported=source.kind == "onnx") for n in top["inputs"].items())
    outputs = tuple(_output(n) for n in top["outputs"].items())
    names = [i.name for i in inputs] + [o.name for o in outputs]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f'{file}: two tensors are called "{name}"', expected="a name of its own for each")
    batch = _batch(top["batch"])
    return Spec(
        file=file,
        name=_named(top["name"], _MODEL_NAME, "letters, digits, _ and -, starting with a letter or digit"),
        description=top["description"].text() if "description" in top else "",
        source=source,
        inputs=inputs,
        outputs=outputs,
        batch=batch,
        precision=top["precision"].text(("fp16", "fp32")) if "precision" in top else "fp16",
        opset=top["opset"].whole(*OPSETS) if "opset" in top else 15,
        trtexec_args=_trtexec_args(top.get("trtexec_args")),
        serving=_serving(top.get("serving"), batch),
        parity=_parity(top.get("parity")),
    )


def _named(node: Node, pattern: re.Pattern[str], allowed: str) -> str:
    value = node.text()
    if not pattern.fullmatch(value):
        raise node.error(allowed)
    return value


def _sha256(nodes: Dict[str, Node]) -> Optional[str]:
    if "sha256" not in nodes:
        return None
    return _named(nodes["sha256"], _SHA256, "64 lower-case hexadecimal digits (sha256sum FILE)")


def _source(node: Node) -> Source:
    kinds = ("application", "keras", "saved_model", "onnx")
    entries = node.mapping(optional=(*kinds, "sha256", "weights", "golden"))
    named = [k for k in kinds if k in entries]
    if len(named) != 1:
        raise node.error(f"exactly one of the keys {', '.join(kinds)}")
    kind = named[0]
    allowed = {"application": ["weights"], "onnx": ["sha256", "golden"]}.get(kind, ["sha256"])
    for key in entries:
        if key not in (kind, *allowed):
            raise entries[key].error(f"with {kind}, only {' and '.join(allowed)} may stand here")
    if kind == "application":
        if "weights" not in entries:
            raise node.error("weights: imagenet, {file: PATH, sha256: HASH} or {untrained: {seed: 0}}")
        return Source(kind, entries[kind].text(), weights=_weights(entries["weights"]))
    path = entries[kind].existing("folder" if kind == "saved_model" else "file")
    golden = None
    if kind == "onnx":
        if "golden" not in entries:
            raise node.error("golden: the .npz that `python -m builder export` wrote beside the ONNX file")
        golden = entries["golden"].existing("file")
    return Source(kind, path.name, path=path, sha256=_sha256(entries), golden=golden)


def _weights(node: Node) -> Weights:
    if node.value == "imagenet":
        return Weights("imagenet")
    if not isinstance(node.value, dict):
        raise node.error("imagenet, {file: PATH, sha256: HASH} or {untrained: {seed: 0}}")
    entries = node.mapping(optional=("file", "sha256", "untrained"))
    if "untrained" in entries:
        seed = Node(node.value["untrained"], node.file, f"{node.path}.untrained").mapping(required=("seed",))
        if len(entries) > 1:
            raise node.error("untrained alone, or file with sha256")
        return Weights("untrained", seed=seed["seed"].whole(0, 2**31 - 1))
    entries = node.mapping(required=("file", "sha256"))
    return Weights("file", path=entries["file"].existing("file"), sha256=_sha256(entries))


def _tensor(entries: Dict[str, Node]) -> Tuple[str, DType, Tuple[int, ...], Optional[str]]:
    name = _named(entries["name"], _TENSOR_NAME, "letters, digits and _./- (trtexec splits at : and ,)")
    dtype = DTYPES[entries["dtype"].text(tuple(DTYPES))]
    # One profile varies the batch alone; 2**16 is beyond any picture's side.
    dims = tuple(d.whole(1, 2**16) for d in entries["dims"].items())
    if len(dims) > _MAX_RANK or math.prod(dims) > _MAX_ELEMENTS:
        raise entries["dims"].error(f"at most {_MAX_RANK} dims, of at most {_MAX_ELEMENTS} elements in all")
    return name, dtype, dims, entries["tensor"].text() if "tensor" in entries else None


def _input(node: Node, *, exported: bool) -> Input:
    entries = node.mapping(
        required=("name", "dtype", "dims"), optional=("tensor", "preprocessing", "samples")
    )
    name, dtype, dims, tensor = _tensor(entries)
    preprocessing, where = None, ""
    if "preprocessing" in entries:
        pre = entries["preprocessing"].mapping(required=("mode", "where"))
        preprocessing = MODES[pre["mode"].text(tuple(MODES))]
        where = pre["where"].text(("graph", "client"))
        if preprocessing.mode != "unit" and dims[-1] != 3:
            raise pre["mode"].error(f"unit: dims {list(dims)} do not end in the 3 channels this mode needs")
        if where == "client" and dtype.name not in ("FP16", "FP32"):
            raise pre["where"].error(f"graph: preprocessed values do not fit in {dtype.name}")
    samples = _samples(node, entries.get("samples"), dtype, dims, exported=exported)
    return Input(name, dtype, dims, samples, tensor, preprocessing, where)


def _samples(
    node: Node, given: Optional[Node], dtype: DType, dims: Tuple[int, ...], *, exported: bool
) -> Samples:
    picture = len(dims) == 3 and dims[-1] in (1, 3)
    if given is None:
        if picture and dtype.name != "INT32":
            return Samples("image")
        if exported or dtype.name in ("FP16", "FP32"):  # what is exported has its samples with it
            return Samples("uniform")
        raise node.error("samples: {uniform: [LOW, HIGH]} or {file: X.npy}; only pictures have a default")
    if given.value == "image":
        if not picture:
            raise given.error(f"uniform or file: dims {list(dims)} are not a picture's [H, W, 1 or 3]")
        return Samples("image")
    kind, entry = given.one_of("uniform", "file")
    if kind == "file":
        return Samples("file", path=entry.existing("file"))
    bounds = [n.number(-65504, 65504) for n in entry.items()]  # FP16's range
    if len(bounds) != 2 or bounds[0] >= bounds[1]:
        raise entry.error("[LOW, HIGH] with LOW < HIGH")
    if dtype.name == "UINT8" and not 0 <= bounds[0] < bounds[1] <= 256:
        raise entry.error("bounds within [0, 256] for UINT8")
    return Samples("uniform", bounds[0], bounds[1])


def _output(node: Node) -> Output:
    entries = node.mapping(required=("name", "dtype", "dims"), optional=("tensor", "labels"))
    name, dtype, dims, tensor = _tensor(entries)
    labels = None
    if "labels" in entries:
        labels = entries["labels"].existing("file")
        try:
            count = len(labels.read_text("utf-8").splitlines())
        except (OSError, ValueError) as e:
            raise entries["labels"].error(f"a text file in UTF-8, a class name per line ({e})") from e
        if dims != (count,):
            raise entries["labels"].error(f"one class name per line for dims {list(dims)}; it has {count}")
    return Output(name, dtype, dims, tensor, labels)


def _batch(node: Node) -> Batch:
    entries = node.mapping(required=("max",), optional=("min", "opt"))
    top = entries["max"].whole(1, 4096)
    low = entries["min"].whole(1, 4096) if "min" in entries else 1
    # 8 serves single requests and full batches best on the H200 of docs/measurements.md.
    opt = entries["opt"].whole(1, 4096) if "opt" in entries else max(low, min(8, top))
    if not low <= opt <= top:
        raise node.error(f"1 <= min <= opt <= max; this is min {low}, opt {opt}, max {top}")
    return Batch(low, opt, top)


def _trtexec_args(node: Optional[Node]) -> Tuple[str, ...]:
    if node is None:
        return ()
    args = []
    for item in node.items():
        arg = item.text()
        if not arg.startswith("--") or arg.split("=")[0] in _OURS:
            raise item.error(f"--option or --option=value, and none of {', '.join(sorted(_OURS))}")
        args.append(arg)
    return tuple(args)


# What the spec's other keys say; saying it twice would let the two disagree.
_OURS = {
    "--onnx", "--saveEngine", "--loadEngine", "--minShapes", "--optShapes", "--maxShapes", "--fp16",
    "--inputIOFormats", "--outputIOFormats", "--buildOnly", "--skipInference",
}  # fmt: skip


def _serving(node: Optional[Node], batch: Batch) -> Serving:
    entries = {} if node is None else node.mapping(optional=("instances", "dynamic_batching", "warmup"))
    gpu, cpu = 2, 1
    if "instances" in entries:
        counts = entries["instances"].mapping(optional=("gpu", "cpu"))
        gpu = counts["gpu"].whole(1, 64) if "gpu" in counts else gpu
        cpu = counts["cpu"].whole(1, 64) if "cpu" in counts else cpu
    delay: Optional[int] = 0
    preferred: Tuple[int, ...] = ()
    batching = entries.get("dynamic_batching")
    if batching is not None and batching.value is False:
        delay = None
    elif batching is not None:
        keys = batching.mapping(optional=("max_queue_delay_us", "preferred_batch_sizes"))
        if "max_queue_delay_us" in keys:
            delay = keys["max_queue_delay_us"].whole(0, 10_000_000)
        if "preferred_batch_sizes" in keys:
            preferred = tuple(n.whole(1, batch.max) for n in keys["preferred_batch_sizes"].items())
    warmup = True
    if "warmup" in entries:
        if not isinstance(entries["warmup"].value, bool):
            raise entries["warmup"].error("true or false")
        warmup = entries["warmup"].value
    return Serving(gpu, cpu, delay, preferred, warmup)


def _parity(node: Optional[Node]) -> Parity:
    entries = {} if node is None else node.mapping(optional=("samples", "seed", "top1", "max_abs"))
    return Parity(
        samples=entries["samples"].whole(1, 1024) if "samples" in entries else 16,
        seed=entries["seed"].whole(0, 2**31 - 1) if "seed" in entries else 0,
        top1=entries["top1"].number(0, 1) if "top1" in entries else 0.99,
        max_abs=entries["max_abs"].number(0, 1e9) if "max_abs" in entries else 0.05,
    )
