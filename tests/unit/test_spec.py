"""Specs: what loads, and what is refused with its file, its path in it, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builder.errors import SourceError, SpecError
from builder.release import sources
from builder.spec import loader, model

Document = dict[str, Any]
SHIPPED = ["tensorrt_fp16_model", "resnet50", "efficientnet_lite0"]


def refusal(file: Path) -> str:
    with pytest.raises(SpecError) as error:
        loader.load(file)
    return str(error.value)


def put(document: Document, path: str, value: object) -> Document:
    """Set ``inputs.0.dtype`` and the like."""
    *way, last = path.split(".")
    here: Any = document
    for key in way:
        here = here[int(key)] if key.isdigit() else here.setdefault(key, {})
    here[int(last) if last.isdigit() else last] = value
    return document


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_spec_loads_under_its_file_s_name(name: str) -> None:
    assert loader.load(loader.find(name)).name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_spec_made_int8_has_int8_s_tolerance(name: str, tmp_path: Path) -> None:
    """A tolerance that is right for FP16 refuses nearly every INT8 engine, also those that tune tries."""
    document = yaml.safe_load(loader.find(name).read_text())
    del document["outputs"][0]["labels"]
    (tmp_path / "x.npy").touch()
    document |= {"precision": "int8_fp16", "calibration": {"file": "x.npy"}}
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    parity = loader.load(tmp_path / f"{name}.yaml").parity
    assert (parity.top1, parity.max_abs) == (None, None)


def test_the_default_model_has_the_article_s_contract() -> None:
    s = loader.load(loader.find("tensorrt_fp16_model"))
    assert [(i.name, i.dtype.name, i.dims) for i in s.inputs] == [("input_1", "FP16", (224, 224, 3))]
    assert [(o.name, o.dtype.name, o.dims) for o in s.outputs] == [("predictions", "FP16", (1000,))]
    assert (s.batch.min, s.batch.opt, s.batch.max) == (1, 32, 32)


def test_resnet50_takes_raw_pixels_and_prepares_them_in_the_graph() -> None:
    s = loader.load(loader.find("resnet50"))
    (image,), (scores,) = s.inputs, s.outputs
    assert (image.name, image.dtype.name, image.dims) == ("image", "UINT8", (224, 224, 3))
    assert image.preprocess_where == "graph"
    assert image.preprocessing is not None
    assert image.preprocessing.mode == "caffe"
    assert (scores.name, scores.dtype.name, scores.dims) == ("probabilities", "FP32", (1000,))
    assert scores.labels is not None
    assert scores.labels.read_text("utf-8").splitlines()[207] == "golden retriever"


def test_what_a_spec_leaves_out_has_a_default(make_spec: Callable[..., model.Spec]) -> None:
    s = make_spec(batch={"max": 32})
    assert (s.batch.min, s.batch.opt, s.batch.max) == (1, 32, 32)
    assert (s.precision, s.opset, s.trtexec_args) == ("fp16", 15, ())
    levers = dict.fromkeys(("busy_wait_events", "eager_batching", "output_copy_stream"), True)
    assert s.serving == model.Serving(2, 1, 0, (), True, cuda_graphs=(1, 2, 4, 8, 16, 32), **levers)


def test_the_default_opt_never_leaves_the_profile(make_spec: Callable[..., model.Spec]) -> None:
    assert make_spec(batch={"max": 4}).batch == model.Batch(1, 4, 4)


# path in the file, value put there, what the message must show as found, what as allowed
REFUSED = [
    ("inputs.0.dtype", "FP64", "'FP64'", "UINT8, INT32, FP16, FP32"),
    ("inputs.0.dtype", 16, "16", "UINT8, INT32, FP16, FP32"),
    ("inputs.0.dims", 4, "4", "a list"),
    ("inputs.0.dims", [], "[]", "at least one entry"),
    ("inputs.0.dims", [-1], "-1", "from 1 to"),
    ("inputs.0.dims", [0], "0", "from 1 to"),
    ("inputs.0.dims", [2.5], "2.5", "whole number"),
    ("inputs.0.dims", [True], "True", "whole number"),
    ("inputs.0.dims", [2**16 + 1], "65537", "65536"),
    ("inputs.0.dims", [1] * 8, "[1, 1, 1, 1, 1, 1, 1, 1]", "7"),
    ("inputs.0.dims", [65536, 65536], "[65536, 65536]", "2147483647"),
    ("inputs.0.name", "a:b", "'a:b'", "letters"),
    ("inputs.0.name", "", "''", "letters"),
    ("inputs", {}, "{}", "a list"),
    ("outputs", [], "[]", "at least one entry"),
    ("batch.max", 0, "0", "1 to 4096"),
    ("batch.max", "8", "'8'", "whole number"),
    ("batch.min", True, "True", "whole number"),
    ("batch.min", 2, "2", "Triton has no lower limit"),
    ("inputs.0.dtype", "STRING", "'STRING'", "TensorRT has no strings"),
    ("inputs.0.dtype", "INT64", "'INT64'", "say INT32"),
    ("inputs.0.tensor", "input_1", "'input_1'", "no `tensor` with an ONNX source"),
    ("outputs.0.tensor", "out", "'out'", "no `tensor` with an ONNX source"),
    ("source.signature", "serve", "'serve'", "only sha256 and golden"),
    ("description", None, "nothing", "a string"),
    ("precision", "int4", "'int4'", "fp16, fp32, int8, int8_fp16"),
    ("opset", 18, "18", "13 to 17"),
    ("opset", 12, "12", "13 to 17"),
    ("name", "../m", "'../m'", "letters"),
    ("name", "a" * 65, "a" * 65, "letters"),
    ("name", 7, "7", "a string"),
    ("name", None, "nothing", "a string"),
    ("parity.top1", 1.5, "1.5", "from 0 to 1"),
    ("parity.max_abs", float("nan"), "nan", "number"),
    ("parity.samples", 0, "0", "from 1"),
    ("serving.instances.gpu", 0, "0", "from 1"),
    ("serving.warmup", "yes", "'yes'", "true or false"),
    ("serving.dynamic_batching", True, "True", "max_queue_delay_us"),
    ("serving.dynamic_batching.preferred_batch_sizes", [9], "9", "1 to 8"),
    ("trtexec_args", ["--fp16"], "'--fp16'", "none of"),
    ("trtexec_args", ["--onnx=x"], "'--onnx=x'", "none of"),
    ("trtexec_args", ["rm"], "'rm'", "--option"),
    ("source.onnx", "absent.onnx", "absent.onnx is not there", "existing file"),
    ("source.onnx", ".", "is not a file", "existing file"),
    ("source.onnx", "a\0b", "a\\x00b", "existing file"),
    ("source.onnx", "a" * 5000, "aaaa", "existing file"),
    ("source.sha256", "abc", "'abc'", "64 lower-case hexadecimal digits"),
    ("source.weights", "imagenet", "'imagenet'", "sha256 and golden"),
    ("inputs.0.samples", "image", "'image'", "uniform or file"),
    ("inputs.0.samples", {"uniform": [3, 1]}, "[3, 1]", "LOW < HIGH"),
    ("inputs.0.samples", {"uniform": [1]}, "[1]", "LOW < HIGH"),
    ("inputs.0.samples", {"file": "absent.npy"}, "is not there", "existing file"),
    (
        "inputs.0.preprocessing",
        {"mode": "resnet", "where": "graph"},
        "'resnet'",
        "caffe, torch, tf, lite, unit",
    ),
    ("inputs.0.preprocessing", {"mode": "caffe", "where": "graph"}, "'caffe'", "3 channels"),
    ("inputs.0.preprocessing", {"mode": "unit", "where": "server"}, "'server'", "graph, client"),
    ("outputs.0.labels", "absent.txt", "is not there", "existing file"),
]


@pytest.mark.parametrize(
    ("path", "value", "found", "allowed"), REFUSED, ids=[f"{p}={str(v)[:20]!r}" for p, v, _, _ in REFUSED]
)
def test_a_wrong_value_is_refused_with_its_place_what_was_found_and_what_is_allowed(
    document: Document, write: Any, path: str, value: object, found: str, allowed: str
) -> None:
    file = write(put(document, path, value))
    message = refusal(file)
    place = "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in path.split(".")).lstrip(".")
    assert message.startswith(f"{file}: {place}"), message
    assert found in message.splitlines()[0]
    assert "\n  expected: " in message
    assert allowed in message.split("\n  expected: ")[1]


@pytest.mark.parametrize(
    "path", ["surprise", "source.surprise", "inputs.0.surprise", "outputs.0.surprise", "batch.surprise",
             "serving.surprise", "serving.instances.surprise", "parity.surprise"],
)  # fmt: skip
def test_an_unknown_key_is_refused_wherever_it_stands(document: Document, write: Any, path: str) -> None:
    message = refusal(write(put(document, path, 1)))
    place = "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in path.split(".")).lstrip(".")
    assert f"{place}: unknown key" in message
    assert "one of " in message


def test_five_mistakes_are_told_in_one_run_each_with_its_place(document: Document, write: Any) -> None:
    put(document, "inputs.0.dtype", "FP64")
    put(document, "inputs.0.dims", [0])
    put(document, "outputs.0.labels", "absent.txt")
    put(document, "batch.max", 0)
    put(document, "surprise", 1)
    file = write(document)
    with pytest.raises(SpecError) as error:
        loader.load(file)
    assert error.value.found == f"{file}: 5 mistakes"
    assert {(m["path"], m["found"]) for m in error.value.mistakes} == {
        ("inputs[0].dtype", "found 'FP64'"),
        ("inputs[0].dims[0]", "found 0"),
        ("outputs[0].labels", f"{file.parent / 'absent.txt'} is not there"),
        ("batch.max", "found 0"),
        ("surprise", "unknown key"),
    }
    for m in error.value.mistakes:
        assert f"{m['path']}: {m['found']}\n  expected: {m['expected']}" in error.value.details
        assert m["expected"]


def test_preprocessing_in_an_exported_graph_is_a_statement_that_golden_samples_prove(
    document: Document, write: Any
) -> None:
    put(document, "inputs.0.preprocessing", {"mode": "unit", "where": "graph"})
    assert loader.load(write(document)).inputs[0].preprocess_where == "graph"
    del document["source"]["golden"]
    with pytest.raises(SpecError) as error:
        loader.load(write(document))
    assert "found 'graph'" in str(error.value)
    assert "nothing is added to a graph that is exported already" in str(error.value)


def test_mistakes_between_values_are_told_together_too(document: Document, write: Any) -> None:
    """Those that need two values to see, in tensors whose single values are all right."""
    del document["source"]["golden"]
    put(document, "inputs.0.tensor", "other")
    put(document, "inputs.0.preprocessing", {"mode": "unit", "where": "graph"})
    put(document, "outputs.0.tensor", "other")
    put(document, "serving.dynamic_batching.preferred_batch_sizes", [9, 4, 10])
    put(document, "batch", {"opt": 4, "max": 8})
    with pytest.raises(SpecError) as error:
        loader.load(write(document))
    assert [m["path"] for m in error.value.mistakes] == [
        "inputs[0].tensor",
        "inputs[0].preprocessing.where",
        "outputs[0].tensor",
        "serving.dynamic_batching.preferred_batch_sizes[0]",
        "serving.dynamic_batching.preferred_batch_sizes[2]",
    ]


@pytest.mark.parametrize("key", ["name", "source", "inputs", "outputs", "batch"])
def test_a_missing_key_is_refused_by_name(document: Document, write: Any, key: str) -> None:
    del document[key]
    assert f"{key}: missing" in refusal(write(document))


@pytest.mark.parametrize("batch", [{"min": 1, "opt": 5, "max": 4}, {"opt": 8, "max": 4}])
def test_a_profile_that_is_not_ascending_is_refused(document: Document, write: Any, batch: Document) -> None:
    assert "1 <= min <= opt <= max" in refusal(write({**document, "batch": batch}))


def test_two_tensors_of_one_name_are_refused(document: Document, write: Any) -> None:
    assert 'two tensors are called "x"' in refusal(write(put(document, "outputs.0.name", "x")))


def test_a_key_written_twice_is_refused_with_its_line(document: Document, write: Any) -> None:
    text = yaml.safe_dump(document) + "batch: {max: 64}\n"
    message = refusal(write(text))
    assert 'key "batch" is written twice' in message
    assert "line 1" in message


def test_labels_of_another_length_than_the_output_are_refused(
    document: Document, write: Any, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    message = refusal(write(put(document, "outputs.0.labels", "labels.txt")))
    assert "outputs[0].labels" in message
    assert "it has 2" in message


def test_labels_that_are_not_text_are_refused(document: Document, write: Any, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00cat")
    assert "outputs[0].labels" in refusal(write(put(document, "outputs.0.labels", "labels.txt")))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({}, "exactly one of the keys application, architecture, keras, saved_model, onnx"),
        ({"application": "ResNet50", "onnx": "m.onnx"}, "exactly one of the keys"),
        (
            {"application": "ResNet50"},
            "imagenet, {file: PATH, sha256: HASH}, {package: {name, version, sha256}} or {untrained",
        ),
        (
            {"application": "ResNet50", "weights": "mine"},
            "imagenet, {file: PATH, sha256: HASH}, {package: {name, version, sha256}} or {untrained",
        ),
        ({"application": "ResNet50", "weights": {"file": "m.onnx"}}, "source.weights.sha256: missing"),
        ({"application": "ResNet50", "weights": {"untrained": {}}}, "source.weights.untrained.seed: missing"),
        ({"application": "R", "weights": {"untrained": {"seed": 0}, "file": "m.onnx"}}, "untrained alone"),
        (
            {"application": "ResNet50", "weights": "imagenet", "golden": "g.npz"},
            "with application, only weights",
        ),
        ({"saved_model": "m.onnx"}, "is not a folder"),
        ({"keras": "."}, "is not a file"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_source_that_cannot_be_is_refused(
    document: Document, write: Any, source: Document, words: str
) -> None:
    assert words in refusal(write({**document, "source": source}))


def test_preprocessing_by_the_client_needs_a_type_that_holds_fractions(
    document: Document, write: Any
) -> None:
    put(document, "inputs.0.dtype", "UINT8")
    put(document, "inputs.0.samples", {"uniform": [0, 256]})
    put(document, "inputs.0.preprocessing", {"mode": "unit", "where": "client"})
    assert "do not fit in UINT8" in refusal(write(document))


def test_pixels_beyond_a_byte_are_refused_for_a_uint8_input(document: Document, write: Any) -> None:
    put(document, "inputs.0.dtype", "UINT8")
    put(document, "inputs.0.samples", {"uniform": [0, 300]})
    assert "[0, 256]" in refusal(write(document))


def test_an_integer_input_that_is_no_picture_must_say_how_its_samples_are_made(
    document: Document, write: Any
) -> None:
    put(document, "inputs.0.dtype", "INT32")
    document["source"] = {"application": "ResNet50", "weights": "imagenet"}
    assert "only pictures have a default" in refusal(write(document))


def test_an_exported_model_brings_its_samples_and_need_not_say_how(document: Document, write: Any) -> None:
    assert loader.load(write(put(document, "inputs.0.dtype", "INT32"))).inputs[0].dtype.name == "INT32"


def test_an_exported_model_without_golden_samples_says_what_its_inputs_are_like(
    document: Document, write: Any
) -> None:
    document["source"] = {"onnx": "m.onnx"}
    assert loader.load(write(document)).source.golden is None
    put(document, "inputs.0.dtype", "INT32")
    assert "only pictures have a default" in refusal(write(document))


def test_a_missing_spec_file_is_refused(tmp_path: Path) -> None:
    assert "absent.yaml: cannot be read: No such file" in refusal(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    "text",
    ["{", "a: b: c", "\tname: x", "--- a\n--- b", "name: !!python/object:os.system x", "&a [*a]", "*nobody",
     "[" * 600, "description: 2024-13-45", "x: !!int twelve", "x: !!bool maybe", "x: !!timestamp now",
     "x: !!map word", "x: 0x_", "x: " + "9" * 5000, "? [a]\n: b", "? {a: b}\n: c", "\ud7ff\x01"],
    ids=lambda t: repr(t[:25]),
)  # fmt: skip
def test_text_that_is_no_yaml_is_refused_not_crashed_on(write: Any, text: str) -> None:
    file = write(text)
    assert refusal(file).startswith(str(file))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"name: \xff\xfe")
    assert "is not YAML" in refusal(tmp_path / "s.yaml")


def test_a_number_in_scientific_notation_is_a_number(document: Document, write: Any) -> None:
    text = yaml.safe_dump(document) + "parity: {max_abs: 1e-3}\n"
    assert loader.load(write(text)).parity.max_abs == 0.001


def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(SpecError, match=r"(?s)resnet51.*resnet50, tensorrt_fp16_model"):
        loader.find("resnet51")


def test_the_hash_of_every_named_file_is_taken(document: Document, write: Any, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    hashes = sources.hashes(loader.load(write(put(document, "outputs.0.labels", "labels.txt"))))
    assert set(hashes) == {"model", "golden", "labels of y"}


def test_a_file_with_another_hash_than_the_spec_s_is_refused(document: Document, write: Any) -> None:
    s = loader.load(write(put(document, "source.sha256", "0" * 64)))
    with pytest.raises(SourceError) as error:
        sources.hashes(s)
    message = str(error.value)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256 of no bytes
    assert "m.onnx" in message
    assert empty in message
    assert f"expected: sha256 {'0' * 64}" in message


def test_the_hash_of_a_folder_sees_a_renamed_file(document: Document, write: Any, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "a").write_text("1")
    s = loader.load(write({**document, "source": {"saved_model": "saved"}}))
    before = sources.hashes(s)["model"]
    (folder / "a").rename(folder / "b")
    assert sources.hashes(s)["model"] != before


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 70000), st.floats(), st.text(max_size=8),
    st.sampled_from(["FP16", "UINT8", "caffe", "graph", "client", "imagenet", "m.onnx", "image", "g.npz"]),
)  # fmt: skip
keys = st.one_of(
    st.sampled_from(
        ["name", "source", "inputs", "outputs", "batch", "min", "opt", "max",
         "onnx", "golden", "dtype", "dims",
         "samples", "uniform", "preprocessing", "mode", "where", "serving", "parity", "labels", "weights"]
    ),
    st.text(max_size=4), st.integers(), st.booleans(), st.none(),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda v: st.one_of(st.lists(v, max_size=4), st.dictionaries(keys, v, max_size=5)),
    max_leaves=12,
)
quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.dictionaries(st.sampled_from(["name", "source", "inputs", "outputs", "batch", "serving"]), values))
def test_a_random_document_gives_a_spec_or_a_refusal(
    document: Document, write: Any, changes: Document
) -> None:
    file = write({**document, **changes})
    try:
        told = loader.load(file).file
    except SpecError as e:
        told = e.found
    assert str(told).startswith(str(file))


@quick
@given(st.text(st.characters(codec="utf-8"), max_size=60))
@example("x: !!float _")
@example("!!omap x")
@example("<<: *x")
@example("<<: {a: 1}")
def test_random_text_gives_a_refusal(write: Any, text: str) -> None:
    file = write(text)
    assert refusal(file).startswith(str(file))
