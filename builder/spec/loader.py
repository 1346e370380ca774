"""A spec file in, a checked ``Spec`` or all of its mistakes out."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from builder.errors import Mistake, SpecError
from builder.spec import document, model, quantization, serving, yaml_file
from builder.spec.fields import REFUSED, Context, Part, Problem
from models_volume.preprocessing import MODES

MODELS = Path(__file__).parents[1] / "models"
_Place = tuple[typing.Union[str, int], ...]


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


def load(file: Path) -> model.Spec:
    """Read and check the spec in ``file``; raises SpecError with every mistake in it."""
    data = yaml_file.read(file)
    try:
        checked = document.Document.model_validate(data, context=Context(file.parent))
    except ValidationError as e:
        raise SpecError.of(file, [m for error in e.errors() for m in _mistakes(error, data)]) from e
    except RecursionError as e:
        raise SpecError(f"{file}: holds an alias to itself") from e
    return _spec(file, checked)


def _mistakes(error: ErrorDetails, data: Any) -> Iterator[Mistake]:
    """One pydantic error as ours: with its place in the file, the value there, and what is allowed."""
    loc = tuple(step for step in error["loc"] if not str(step).startswith("<"))  # tags of ``fields.either``
    kind = error["type"]
    if kind == REFUSED:
        for problem in error["ctx"]["problems"]:
            yield _mistake((*loc, *problem.at), problem, data)
    elif kind in ("extra_forbidden", "invalid_key"):
        yield _mistake(loc, Problem(f"one of {_keys(loc[:-1])}", found="unknown key"), data)
    elif kind == "missing":
        yield _mistake(loc, Problem(f"keys {_keys(loc[:-1])}", found="missing"), data)
    elif kind in ("list_type", "too_short"):
        yield _mistake(loc, Problem("a list with at least one entry"), data)
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        yield _mistake(loc, Problem(f"a mapping with the keys {_keys(loc)}"), data)
    else:  # no kind of value of ours ends here; pydantic's own words are plain enough
        yield _mistake(loc, Problem(error["msg"]), data)


def _mistake(place: _Place, problem: Problem, data: Any) -> Mistake:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")
    value = data
    try:
        for step in place:
            value = value[step]
    except (KeyError, IndexError, TypeError):
        value = None
    found = problem.found or f"found {'nothing' if value is None else repr(value)}"
    return Mistake(path, found, problem.expected)


def _keys(place: _Place) -> str:
    """The keys of the mapping at this place: the needed ones, then the others in brackets."""
    fields = _part(place).model_fields
    needed = [name for name, info in fields.items() if info.is_required()]
    return ", ".join([*needed, *(f"[{name}]" for name in fields if name not in needed)])


def _part(place: _Place) -> type[Part]:
    part: type[Part] = document.Document
    for step in place:
        if isinstance(step, str):
            part = parts_in(part.model_fields[step].annotation)[0]
    return part


def parts_in(annotation: Any) -> list[type[Part]]:
    """The mappings that a type speaks of, through lists, unions and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    return [part for argument in typing.get_args(annotation) for part in parts_in(argument)]


def _spec(file: Path, read: document.Document) -> model.Spec:
    return model.Spec(
        file=file,
        name=read.name,
        description=read.description,
        source=_source(read.source),
        inputs=tuple(_input(i) for i in read.inputs),
        outputs=tuple(model.Output(o.name, o.dtype, tuple(o.dims), o.tensor, o.labels) for o in read.outputs),
        batch=model.Batch(read.batch.min, read.batch.opt or min(32, read.batch.max), read.batch.max),
        precision=read.precision,
        opset=read.opset,
        trtexec_args=tuple(read.trtexec_args),
        serving=_serving(read.serving, read.batch.max),
        parity=_parity(read.parity, int8=read.calibration is not None),
        evaluation=_evaluation(read.evaluation),
        quantization=quantization.checked(read.calibration, read.int8),
    )


def _parity(read: document.Parity, *, int8: bool) -> model.Parity:
    given = model.Parity(read.samples, read.seed, read.top1, read.max_abs)
    return given if int8 else model.Parity(read.samples, read.seed, **given.tolerance())


def _evaluation(read: document.Evaluation | None) -> model.Evaluation | None:
    if read is None:
        return None
    kind = "folder" if read.folder is not None else "npz"
    path: Path = getattr(read, kind)
    return model.Evaluation(kind, path, read.metric, read.min, read.max_drop, read.samples)


def _source(read: document.Source) -> model.Source:
    if read.kind in ("application", "architecture"):
        name: str = getattr(read, read.kind)
        return model.Source(read.kind, name, weights=_weights(read.weights, read.kind))
    path: Path = getattr(read, read.kind)
    return model.Source(read.kind, path.name, path, read.sha256, golden=read.golden, signature=read.signature)


def _weights(read: str | document.WeightsFrom, kind: str) -> model.Weights:
    if isinstance(read, str):
        return model.Weights(read)
    if read.file is not None:
        return model.Weights("file", path=read.file, sha256=read.sha256)
    if read.package is not None:
        p = read.package
        file = p.file or ("*.pth" if kind == "architecture" else "*.h5")
        return model.Weights("package", package=model.Package(p.name, p.version, p.sha256, file))
    return model.Weights("untrained", seed=read.untrained.seed)


def _input(read: document.Input) -> model.Input:
    pre = read.preprocessing
    return model.Input(
        read.name,
        read.dtype,
        tuple(-1 if isinstance(d, document.Range) else d for d in read.dims),
        _samples(read),
        read.tensor,
        MODES[pre.mode] if pre else None,
        pre.where if pre else "",
        tuple(model.Range(d.min, d.opt, d.max) if isinstance(d, document.Range) else None for d in read.dims),
    )


def _samples(read: document.Input) -> model.Samples:
    given = read.samples
    if given is None:
        return model.Samples("image" if read.picture and read.dtype.name != "INT32" else "uniform")
    if isinstance(given, str):
        return model.Samples(given)
    if given.file is not None:
        return model.Samples("file", path=given.file)
    return model.Samples("uniform", *given.uniform)


def _serving(read: serving.Serving, largest: int) -> model.Serving:
    batching, counts = read.dynamic_batching, read.instances
    levers: dict[str, Any] = {
        "cpu_threads": read.cpu_threads,
        "cuda_graphs": _graphs(read.cuda_graphs, largest),
        "busy_wait_events": read.busy_wait_events,
        "eager_batching": read.eager_batching,
        "output_copy_stream": read.output_copy_stream,
        "config": read.config or {},
        "named": tuple(sorted(read.model_fields_set)),
    }
    if isinstance(batching, bool):
        return model.Serving(counts.gpu, counts.cpu, None, (), read.warmup, **levers)
    policy, priorities = batching.queue_policy, batching.priorities
    return model.Serving(
        counts.gpu,
        counts.cpu,
        batching.max_queue_delay_us,
        tuple(batching.preferred_batch_sizes),
        read.warmup,
        **levers,
        preserve_ordering=batching.preserve_ordering,
        queue_policy=model.QueuePolicy(**policy.model_dump()) if policy else None,
        priorities=model.Priorities(priorities.levels, priorities.default) if priorities else None,
    )


def _graphs(read: bool | serving.CudaGraphs, largest: int) -> tuple[int, ...]:
    """The sizes to capture. True: powers of two, so that most batches are near one, and the largest."""
    if isinstance(read, bool):
        powers = [2**n for n in range(largest.bit_length())] if read else []
        return tuple(sorted({*powers, largest})) if read else ()
    return tuple(sorted(read.batch_sizes))
