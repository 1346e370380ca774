"""trtexec's language: its command lines as pure functions, and its answers parsed.

Written against the outputs of trtexec 8.5.1 in tests/samples. What changed in later versions is asked of the
binary's own help: ``--skipInference`` for ``--buildOnly``; in 11 no ``--fp16``, no cuBLAS, and formats of
inputs and outputs without a type (read in NVIDIA's source, see docs/ngc-tags.md).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Union

import numpy as np

from builder.errors import EngineError
from builder.export.onnx_model import TensorOrder
from builder.spec.model import Input, Output, Spec

_VERSION = re.compile(r"\[TensorRT v(\d+)\]")
_OPTION = re.compile(r"^\s+(--\w+)", re.MULTILINE)
# Bare words among the numbers, never inside a quoted name.
_NAN = re.compile(r"(?<=[\s,\[])-?nan(?=[\s,\]])")
_INF = re.compile(r"(?<=[\s,\[-])inf(?=[\s,\]])")


@dataclass(frozen=True)
class Trtexec:
    """A trtexec binary as its ``--help`` describes it.

    Attributes:
        version: TensorRT's.
        options: those it knows.
        cublas: whether ``--tacticSources`` takes cuBLAS and cuDNN; 11 refuses the words.
        typed_formats: whether ``--inputIOFormats`` takes types ("fp16:chw"); since 11 the ONNX file alone
            says them.
    """

    version: str
    options: FrozenSet[str]
    cublas: bool = True
    typed_formats: bool = True


def parse_help(text: str) -> Trtexec:
    """Read ``trtexec --help``; raises EngineError when it is not trtexec's."""
    version = _VERSION.search(text)
    options = frozenset(_OPTION.findall(text))
    if version is None or "--saveEngine" not in options:
        raise EngineError("`trtexec --help` did not answer as trtexec does", details=text[-1000:])
    return Trtexec(
        _dotted(version.group(1)),
        options,
        cublas="CUBLAS" in text,
        typed_formats="Memory layout of each of the input tensors" not in text,
    )


def _dotted(digits: str) -> str:
    """8501 -> 8.5.1; from TensorRT 10 on minor and patch have two digits: 100900 -> 10.9.0."""
    number = int(digits)
    if len(digits) <= 4:
        return f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def build_argv(
    binary: str,
    spec: Spec,
    known: Trtexec,
    order: TensorOrder,
    *,
    onnx: str,
    engine: str,
    timing_cache: str = "",
) -> List[str]:
    """The command that builds ``engine`` from ``onnx``: a pure function of spec, binary and graph order.

    ``timing_cache`` is a file that trtexec reads, where it is there, and writes; empty for none.

    Raises:
        EngineError: this trtexec cannot do what the spec asks.
    """
    argv = [binary, f"--onnx={onnx}", f"--saveEngine={engine}"]
    # All three, always: without them trtexec builds a batch-1 engine from a dynamic model, exits 0, and
    # Triton refuses it later ("configuration specified max-batch 32 but ... only supports max-batch 1").
    for point, size in (("min", spec.batch.min), ("opt", spec.batch.opt), ("max", spec.batch.max)):
        shapes = {i.name: (size, *i.shape(point)) for i in spec.inputs}
        argv.append(f"--{point}Shapes={_shapes(shapes)}")
    argv += _precision(spec, known)
    argv += _stop_after_build(known)
    argv += io_formats(spec, order) if known.typed_formats else []
    mine = [a.split("=")[0] for a in spec.trtexec_args]
    if timing_cache and "--timingCacheFile" in known.options and "--timingCacheFile" not in mine:
        argv.append(f"--timingCacheFile={timing_cache}")
    if "--tacticSources" in known.options and known.cublas and "--tacticSources" not in mine:
        # TensorRT's own kernels only: the engine then needs no cuDNN or cuBLAS where it is served, and
        # takes less GPU memory. TensorRT made this its default after 8.5. Override in trtexec_args.
        argv.append("--tacticSources=-CUBLAS,-CUBLAS_LT,-CUDNN")
    return [*argv, *spec.trtexec_args]


def _precision(spec: Spec, known: Trtexec) -> List[str]:
    """What TensorRT may compute in. INT8 is where the graph has Q/DQ, so no calibration cache is given."""
    wanted = {"fp16": ["--fp16"], "int8": ["--int8"], "int8_fp16": ["--fp16", "--int8"]}
    argv = wanted.get(spec.precision, [])
    for option in argv:
        if option not in known.options:
            raise EngineError(
                f"this trtexec (TensorRT {known.version}) has no {option}: its types are the ONNX model's",
                expected="TensorRT before 11, or precision: fp32 with an ONNX model that is FP16 itself",
            )
    return argv


def run_argv(
    binary: str,
    spec: Spec,
    *,
    engine: str,
    batch: int,
    inputs: Mapping[str, str],
    output: str,
    formats: Sequence[str] = (),
    dims: Optional[Mapping[str, Sequence[int]]] = None,
) -> List[str]:
    """The command that loads ``engine`` and runs one batch of the files in ``inputs`` (name to file).

    ``dims`` are the samples' own by input name; those of the spec where none is free.

    ``formats`` are those of the build. A loaded engine has its types already; trtexec 8.5 reads the
    options and uses them for nothing.
    """
    shapes = {i.name: (batch, *(dims or {}).get(i.name, i.dims)) for i in spec.inputs}
    loads = ",".join(f"{name}:{file}" for name, file in inputs.items())
    return [
        binary,
        f"--loadEngine={engine}",
        *formats,
        f"--shapes={_shapes(shapes)}",
        f"--loadInputs={loads}",
        f"--exportOutput={output}",
        "--iterations=1",
        "--duration=0",
        "--warmUp=0",
    ]


def _shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def io_formats(spec: Spec, order: TensorOrder) -> List[str]:
    """``--inputIOFormats`` and ``--outputIOFormats``: a word for each tensor, in the graph's own order.

    trtexec counts the words and gives the first to the network's first tensor, which is the ONNX graph's
    first, whatever the spec's order is. "chw" means plain row-major: right for a [224, 224, 3] tensor too.

    An option is left out where all its tensors are FP32, which is trtexec's own default, and where one of
    them has a type without a word (UINT8): the list takes no gap. Then trtexec leaves UINT8, INT32 and
    FP16 tensors as the ONNX file types them, and the builder has held that file to the spec's types
    (onnx_model.check). So a UINT8 input beside an FP16 one needs no word: the graph says both. Inputs and
    outputs are judged apart: a UINT8 input leaves the outputs' words alone.
    """
    argv = []
    sides: Sequence[Any] = (
        ("--inputIOFormats", spec.inputs, order.inputs),
        ("--outputIOFormats", spec.outputs, order.outputs),
    )
    for option, tensors, names in sides:
        by_name: Dict[str, Union[Input, Output]] = {t.name: t for t in tensors}
        words = [by_name[name].dtype.trtexec for name in names]
        if all(words) and set(words) != {"fp32"}:
            argv.append(f"{option}=" + ",".join(f"{w}:chw" for w in words))
    return argv


def _stop_after_build(known: Trtexec) -> List[str]:
    for option in ("--skipInference", "--buildOnly"):
        if option in known.options:
            return [option]
    return []  # it then also measures for some seconds; the plan is the same


def passed(log: str, code: int) -> bool:
    """Success is exit code 0 and trtexec's own last word."""
    return code == 0 and any(line.startswith("&&&& PASSED") for line in log.splitlines())


def errors(log: str) -> str:
    """trtexec's own error lines, without their time stamps; its last lines where there are none."""
    lines = [line for line in log.splitlines() if "[E]" in line or "ERROR" in line]
    lines = lines or log.splitlines()[-5:]
    return "\n".join(re.sub(r"^\[[\d/:-]+\] ", "", line) for line in lines[:20])


def device(log: str) -> Optional[Dict[str, Any]]:
    """The GPU a log speaks of: name and compute capability; None when it names none."""
    name = re.search(r"Selected Device: (.+)", log)
    capability = re.search(r"Compute Capability: ([\d.]+)", log)
    if name is None or capability is None:
        return None
    return {"name": name.group(1).strip(), "compute_capability": capability.group(1)}


def version(log: str) -> Optional[str]:
    """TensorRT's version as a build's log gives it ("8.5.1")."""
    found = re.search(r"TensorRT version: ([\d.]+)", log)
    return found.group(1) if found else None


def parse_output(text: str, spec: Spec, batch: int) -> Dict[str, np.ndarray]:
    """Read ``--exportOutput``'s JSON into [batch, *dims] arrays by output name.

    Raises:
        EngineError: it is not that JSON, or lacks an output, or one has another size.
    """
    # C++ streams print nan and inf, which JSON does not know.
    text = _INF.sub("Infinity", _NAN.sub("NaN", text))
    try:
        tensors = {t["name"]: t for t in json.loads(text)}
        arrays = {}
        for output in spec.outputs:
            tensor = tensors[output.name]
            shape = tuple(int(size) for size in tensor["dimensions"].split("x"))
            if shape[0] != batch or not output.takes(shape[1:]):
                wanted = "x".join(map(str, (batch, *output.dims)))
                raise EngineError(
                    f"trtexec gave output {output.name} as {tensor['dimensions']}", expected=wanted
                )
            values = np.array(tensor["values"], dtype=np.float64)
            arrays[output.name] = values.reshape(shape).astype(output.dtype.numpy)
    except (ValueError, KeyError, TypeError) as e:
        raise EngineError(
            f"trtexec's output file cannot be read: {type(e).__name__}: {e}", details=text[:500]
        ) from e
    return arrays
