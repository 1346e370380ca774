"""A FAKE trtexec: replays recorded output of trtexec 8.5.1 and runs the model with onnxruntime.

It knows the traps of the real one: a dynamic model without shapes gives a batch-1 engine and exit code 0,
input files are never checked for their size, the plan is written in place, and I/O formats are given to the
network's tensors by their place: as many as there are tensors (or one for all), each setting its tensor's
type (read in trtexec 8.5's sampleEngines.cpp). Its "plan" is a header with the profile, followed by the
ONNX model with those types.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
MAGIC = b"FAKE-PLAN\n"
TIMINGS = b"FAKE-TIMINGS\n"
# The words of 8.5's grammar that a network of these tests can have.
WORDS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "int32": TensorProto.INT32}
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


class RefusedError(Exception):
    """What trtexec prints as an error before it fails."""


def replay(name: str, start: str = "=== Device Information", code: int = 0) -> int:
    """Print a recorded log from the line that contains ``start``, with this run's own last line."""
    lines = (SAMPLES / name).read_text("utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if start in line)
    for line in lines[first:]:
        if not line.startswith(("&&&&", "rc=", "ls:")):
            print(line)
    print(f"&&&& {'FAILED' if code else 'PASSED'} TensorRT.trtexec [TensorRT v8501] # {' '.join(sys.argv)}")
    return code


def shapes(text: str) -> dict[str, list[int]]:
    """``a:1x2,b:3x4`` as a mapping."""
    return {n: [int(d) for d in s.split("x")] for n, s in (part.rsplit(":", 1) for part in text.split(","))}


def set_types(graph: onnx.GraphProto, option: str, tensors: list[onnx.ValueInfoProto], spec: str) -> None:
    """Give each tensor the type at its place in ``spec``; raises RefusedError as trtexec does."""
    words = [part.split(":")[0] for part in spec.split(",")]
    for word in words:
        if word not in WORDS:
            raise RefusedError(f"Invalid DataType {word}")
    if len(words) not in (1, len(tensors)):
        side = option.strip("-").removesuffix("IOFormats")
        raise RefusedError(
            f"The number of {side}IOFormats must match network's {side}s or be one for broadcasting."
        )
    for place, tensor in enumerate(tensors):
        wanted = WORDS[words[0 if len(words) == 1 else place]]
        found = tensor.type.tensor_type.elem_type
        if wanted == found:
            continue
        if not {wanted, found} <= set(FLOATS):  # TensorRT casts between floating-point types only
            raise RefusedError(f"{tensor.name}: type {words[place]} does not fit the network's tensor")
        inside = f"{tensor.name}_as_in_the_onnx"
        rename(graph, tensor.name, inside)
        if option == "--inputIOFormats":
            graph.node.insert(0, helper.make_node("Cast", [tensor.name], [inside], to=found))
        else:
            graph.node.append(helper.make_node("Cast", [inside], [tensor.name], to=wanted))
        tensor.type.tensor_type.elem_type = wanted


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a tensor another name wherever a node reads or writes it."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def time(cache: Path) -> None:
    """Take the timing cache that is there, and leave one; raises RefusedError for one that is not ours."""
    if cache.exists() and cache.read_bytes() != TIMINGS:
        raise RefusedError("a broken timing cache")
    cache.write_bytes(TIMINGS)


def build(options: dict[str, str]) -> int:
    print("=== Model Options ===")
    try:
        if "--timingCacheFile" in options:
            time(Path(options["--timingCacheFile"]))
        model = onnx.load(options["--onnx"])
        onnx.checker.check_model(model)
    except Exception:
        return replay("build_truncated_onnx.log", code=1)
    names = {i.name for i in model.graph.input}
    profile: dict[str, Any] = {"shapes": {}}
    for key in ("--minShapes", "--optShapes", "--maxShapes"):
        wanted = shapes(options[key]) if key in options else {}
        if set(wanted) - names:
            return replay("build_wrong_tensor.log", code=1)
        profile[key] = next(iter(wanted.values()))[0] if wanted else 1
        profile["shapes"][key] = wanted
    weights = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    try:
        for option, tensors in (
            ("--inputIOFormats", inputs),
            ("--outputIOFormats", list(model.graph.output)),
        ):
            if option in options:
                set_types(model.graph, option, tensors, options[option])
    except RefusedError as e:
        print(f"[E] {e}")
        return replay("build_wrong_tensor.log", "Device Information", code=1)
    try:
        with Path(options["--saveEngine"]).open("wb") as f:
            f.write(MAGIC + json.dumps(profile).encode() + b"\n" + model.SerializeToString())
    except OSError:
        return replay("save_unwritable.log", code=1)
    if os.environ.get("FAKE_TRTEXEC_FAILS_AFTER_WRITING"):
        return replay("build_wrong_tensor.log", code=1)
    return replay("build_ok.log")


def load(path: str) -> tuple[dict[str, Any], bytes]:
    """Profile and ONNX bytes of a fake plan; raises ValueError when it is damaged."""
    data = Path(path).read_bytes()
    magic, profile, model = data[: len(MAGIC)], *data[len(MAGIC) :].split(b"\n", 1)
    if magic != MAGIC:
        raise ValueError("not a plan")
    onnx.checker.check_model(model)
    return json.loads(profile), model


def printed(value: np.generic) -> str:
    """As a C++ stream prints it: whole numbers in full, others with six digits."""
    return str(value) if isinstance(value, np.integer) else f"{float(value):g}"


def run(options: dict[str, str]) -> int:
    try:
        profile, model = load(options["--loadEngine"])
    except Exception:
        return replay("load_truncated_plan.log", "Engine loaded", code=1)
    wanted = shapes(options["--shapes"])
    batch = next(iter(wanted.values()))[0]
    low, high = (profile["shapes"].get(f"--{end}Shapes", {}) for end in ("min", "max"))
    within = all(
        a <= size <= b
        for name, shape in wanted.items()
        if name in low
        for a, size, b in zip(low[name], shape, high[name], strict=True)
    )
    if not within or not profile["--minShapes"] <= batch <= profile["--maxShapes"]:
        return replay("run_over_max.log", code=1)
    if "--loadInputs" not in options:  # timed with inputs of its own: what was recorded stands for all
        return replay("run_fp16_io.log")
    session = onnxruntime.InferenceSession(model)
    files = dict(part.split(":", 1) for part in options["--loadInputs"].split(","))
    kinds = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(uint8)": "u1", "tensor(int32)": "i4"}
    feed = {}
    for tensor in session.get_inputs():
        count = int(np.prod(wanted[tensor.name]))
        raw = np.fromfile(files[tensor.name], kinds[tensor.type])
        feed[tensor.name] = np.resize(raw, count).reshape(wanted[tensor.name])
    names = [o.name for o in session.get_outputs()]
    entries = [
        f'{{ "name" : "{name}"\n  , "dimensions" : "{"x".join(map(str, array.shape))}"\n'
        f'  , "values" : [ {", ".join(printed(v) for v in array.ravel())} ]\n  }}\n'
        for name, array in zip(names, session.run(names, feed))
    ]
    Path(options["--exportOutput"]).write_text("[\n  " + ", ".join(entries) + "]\n")
    return replay("run_loadinputs.log")


def main() -> int:
    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT v8501] # {' '.join(sys.argv)}")
    options = dict((*arg.split("=", 1), "")[:2] for arg in sys.argv[1:])
    text = (SAMPLES / "unknown_option.log").read_text("utf-8")
    page = text[text.index("=== Model Options ===") : text.index("&&&& FAILED")]
    if "--help" in options:
        print(page)
        return 0
    for option in options:
        if option not in page:
            print(f"[E] Unknown option: {option}")
            return replay("unknown_option.log", "=== Model Options ===", code=1)
    return run(options) if "--loadEngine" in options else build(options)


if __name__ == "__main__":
    sys.exit(main())
