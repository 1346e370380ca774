"""A release built: spec -> export -> engine -> verify -> published. Only ``deploy`` makes it live, too."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from builder import engine as engines
from builder import hashing, progress
from builder.engine import LOG, Engine, quiet
from builder.engine.cache import EngineCache
from builder.errors import BuilderError, EngineError
from builder.evaluation.gate import Gate, hold_published
from builder.export import golden, onnx_model
from builder.export.known_models import TRAINED
from builder.release import exports, manifest, parity, power, sources, space
from builder.release.exports import Export
from builder.release.given import Given
from builder.release.lifecycle import ModelReleases
from builder.release.manifest import labels_name
from builder.release.model_config import config_pbtxt, ignored
from builder.release.store import Store, now
from builder.spec import loader as specs
from builder.spec.model import Spec
from models_volume import layout


@dataclass(frozen=True)
class Job:
    """What is to be built, with what, into which volume."""

    spec: Spec
    store: Store
    engine: Engine
    identity: Dict[str, Any]
    allow_untrained: bool
    quiet_gpu: Optional[float] = None  # minutes to wait for a quiet GPU
    force: bool = False  # build even when nothing changed
    given: Optional[Given] = None  # what was built elsewhere, in the place of an export

    @classmethod
    def of(
        cls,
        file: Path,
        store: Store,
        engine_name: str,
        *,
        allow_untrained: bool,
        quiet_gpu: Optional[float] = None,
        force: bool = False,
    ) -> Job:
        """From a spec's file and an engine's name; raises SpecError or EngineError."""
        spec = specs.load(file)
        engine = engines.create(engine_name, timing_caches=store.cache)
        return cls(spec, store, engine, engine.identity(), allow_untrained, quiet_gpu, force)

    def fingerprint(
        self, hashes: Dict[str, str], onnx: Path, onnx_sha: str, golden_sha: str, weights: Dict[str, Any]
    ) -> str:
        """The fingerprint of the release that this job makes of an ONNX file."""
        return manifest.fingerprint(
            self.spec,
            hashes,
            self.identity,
            onnx=onnx_sha,
            golden=golden_sha,
            recipe=self.engine.recipe(self.spec, onnx),
            config=config_pbtxt(self.spec, self.engine, weights, 0),
        )


def build(
    file: Path,
    store: Store,
    engine_name: str,
    *,
    allow_untrained: bool,
    force: bool,
    quiet_gpu: Optional[float] = None,
) -> Dict[str, Any]:
    """Build and publish a spec's release; where there is one already, do nothing. What is live stays live.

    Args:
        engine_name: "tensorrt" or "onnxruntime".
        allow_untrained: where ImageNet weights cannot be had, go on with seeded untrained ones.
        force: build even when nothing changed.
        quiet_gpu: minutes to wait at most for a GPU that nobody uses; None does not wait.

    Returns:
        model, version, action ("built" or "unchanged"), live (the live release's number or None), manifest.

    Raises:
        BuilderError: any of its kinds.
    """
    job = Job.of(file, store, engine_name, allow_untrained=allow_untrained, quiet_gpu=quiet_gpu, force=force)
    return of_job(job)


def of_job(job: Job) -> Dict[str, Any]:
    """``build`` of a job that is there already."""
    with job.store.lock(f"build of {job.spec.name}"):
        return make(job)


def deploy(
    file: Path,
    store: Store,
    engine_name: str,
    *,
    allow_untrained: bool,
    force: bool,
    quiet_gpu: Optional[float] = None,
) -> Dict[str, Any]:
    """``build``, and make the release live: for a plain ``docker compose up``, where nobody proves it.

    Returns:
        As ``build``, with previous (the release to go back to); action is also "reactivated".

    Raises:
        BuilderError: any of its kinds; the live release is then what it was before.
    """
    job = Job.of(file, store, engine_name, allow_untrained=allow_untrained, quiet_gpu=quiet_gpu, force=force)
    with store.lock(f"deployment of {job.spec.name}"):
        row = make(job)
        previous = row["live"]
        if row["version"] != previous:
            previous = ModelReleases(store, job.spec.name).activate(row["version"], engine=job.identity)
            progress.say(f"{job.spec.name}: release {row['version']} is live")
            if row["action"] == "unchanged":
                row["action"] = "reactivated"
        return {**row, "live": row["version"], "previous": previous}


def plan(file: Path, store: Store, engine_name: str, *, allow_untrained: bool) -> Dict[str, Any]:
    """What ``build`` would do, and why; changes nothing.

    Returns:
        model, live (a number or None), would (words), changes (lines).

    Raises:
        BuilderError: the spec, its files or the engine are not to be had.
    """
    job = Job.of(file, store, engine_name, allow_untrained=allow_untrained)
    spec = job.spec
    hashes = sources.hashes(spec)
    now_live = store.live(spec.name)
    row: Dict[str, Any] = {"model": spec.name, "live": now_live, "changes": []}
    if now_live is None:
        return {**row, "would": "build its first release"}
    data = store.manifest(spec.name, now_live)
    if _made_of(job, hashes, data):
        return {**row, "would": f"do nothing: release {now_live} is as the spec says"}
    here = {"spec": spec.as_json(), "sha256": hashes, "engine": job.identity, "tools": manifest.tools()}
    there = {
        "spec": data["spec"],
        "sha256": data["source"]["sha256"],
        "engine": {key: data["engine"].get(key) for key in job.identity},
        "tools": data["tools"],
    }
    if spec.source.kind == "onnx":
        here["tools"] = there["tools"]  # they had no part in it
    lines = manifest.changes(there, here) or ["how the builder makes an engine or a configuration of it"]
    return {**row, "would": f"build a release after {now_live}", "changes": lines}


def make(job: Job) -> Dict[str, Any]:
    """``build`` of a job, under the store's lock."""
    spec, store = job.spec, job.store
    if not job.force:
        done = _published(job, sources.hashes(spec))
        if done is not None:
            _hold_to_live(job, done)
            return done
    staged = store.stage(spec.name)  # first, since it removes what dead builds left
    space.check(spec, store)
    try:
        return _release(job, staged)
    except EngineError:
        raise  # the command in the error wants its files
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _release(job: Job, staged: Path) -> Dict[str, Any]:
    """Build in ``staged`` and publish, from copies of the spec's files."""
    began = time.monotonic()
    work = staged / "work"
    work.mkdir()
    copies = sources.Copies(job.spec, work / "sources")
    job = dataclasses.replace(job, spec=copies.spec)
    try:
        hashes = sources.hashes(job.spec)
        export = exports.get(job.spec, job.store, work, hashes, allow_untrained=job.allow_untrained)
        onnx_model.check(export.onnx, job.spec, job.engine.max_opset)
        gate = Gate(job.spec, export.weights) if job.spec.evaluation is not None else None
        if job.spec.quantization is not None:
            export = exports.quantize(export, job.spec, job.store, work, hashes)
            onnx_model.check(export.onnx, job.spec, job.engine.max_opset)
        print_ = job.fingerprint(
            hashes, export.onnx, hashing.of_path(export.onnx), hashing.of_path(export.golden), export.weights
        )
        if not job.force:  # exported anew, and the same came out
            done = _published(job, hashes, print_)
            if done is not None:
                _hold_to_live(job, done)
                shutil.rmtree(staged)
                return done
        job = dataclasses.replace(job, spec=_tolerant(job.spec, export))
        version = job.store.next_version(job.spec.name)
        facts = _make(job, export, gate, staged / "release", work, version, began)
    except BuilderError as e:
        copies.named(e)
        raise
    return _publish(job, staged, version, print_, hashes, facts)


def _tolerant(spec: Spec, export: Export) -> Spec:
    """With INT8, tolerances that the spec leaves out follow what quantizing changed."""
    if export.quantization is None:
        return spec
    golden = export.quantization.report["golden"]
    parity = spec.parity.with_int8(**golden)
    allowed = parity.tolerance()
    if parity != spec.parity:
        progress.say(
            f"{spec.name}: by what quantizing changed, parity is held to top-1 {allowed['top1']:.2%}, "
            f"max abs {allowed['max_abs']:.3g}"
        )
    if spec.parity.max_abs is not None and spec.parity.max_abs < golden["changed"]:
        left_out = dataclasses.replace(spec.parity, max_abs=None).with_int8(**golden).tolerance()
        progress.say(
            f"{spec.name}: the spec allows max abs {spec.parity.max_abs:g}; quantizing alone changed "
            f"{golden['changed']:.3g}, and TensorRT's engine is often as far again from the quantized model: "
            f"with max_abs left out of parity, {left_out['max_abs']:.3g} is allowed"
        )
    return dataclasses.replace(spec, parity=parity)


def _publish(
    job: Job, staged: Path, version: int, print_: str, hashes: Dict[str, str], facts: Dict[str, Any]
) -> Dict[str, Any]:
    model, release = job.spec.name, staged / "release"
    data = manifest.make(
        job.spec,
        version=version,
        created=now(),
        fingerprint=print_,
        export=manifest.model_key(job.spec, hashes),
        files={
            path.relative_to(release).as_posix(): hashing.of_path(path)
            for path in sorted(release.rglob("*"))
            if path.is_file()
        },
        hashes=hashes,
        ngc_tag=os.environ.get("NGC_TAG") or None,
        **facts,
    )
    (release / layout.MANIFEST).write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    job.store.publish(release, model, version)
    job.store.audit("publish", model=model, version=version, fingerprint=print_)
    if job.given is None:
        job.store.remember_spec(model, job.spec.file)
    shutil.rmtree(staged)
    progress.say(f"{model}: release {version} is published")
    return row(job, version, "built", data)


def row(job: Job, version: int, action: str, data: Dict[str, Any]) -> Dict[str, Any]:
    """What is said of a release that this job has made or found."""
    live = job.store.live(job.spec.name)
    return {"model": job.spec.name, "version": version, "action": action, "live": live, "manifest": data}


def _published(job: Job, hashes: Dict[str, str], print_: Optional[str] = None) -> Optional[Dict[str, Any]]:
    """The release that is what this job would make, live or not (a build killed before its flip, or a spec
    set back to what it was): nothing needs to be built for it.

    Without ``print_``, a release is recognized by what it was exported from; nothing is exported for that.
    """
    spec, store = job.spec, job.store
    releases = ModelReleases(store, spec.name)
    now_live = releases.live
    for version in sorted(releases.versions, key=lambda v: (v == now_live, v), reverse=True):
        try:
            data = store.manifest(spec.name, version)
        except BuilderError as e:
            progress.say(f"{spec.name}: release {version} is damaged: {e.found}")
            continue
        same = data.get("fingerprint") == print_ if print_ else _made_of(job, hashes, data)
        if not same or releases.failure(version) is not None or _other_engine(job, data):
            continue
        damage = store.damage(spec.name, version)
        if damage:
            progress.say(f"{spec.name}: release {version} is damaged: {damage}")
            continue
        if _makeshift(spec, data["weights"]) and not job.allow_untrained:
            progress.say(f"{spec.name}: release {version} will not do: {data['weights']['description']}")
            continue
        _warn(spec, data["weights"])
        if version == now_live:
            progress.say(f"{spec.name}: nothing changed since release {version}; nothing is built")
        else:
            progress.say(f"{spec.name}: release {version} is this very build; nothing is built")
        return row(job, version, "unchanged", data)
    return None


def _other_engine(job: Job, data: Dict[str, Any]) -> bool:
    """Whether this is not the very engine that was built elsewhere: two builds of one recipe differ."""
    given = job.given
    return bool(given and given.fits and data["engine"]["sha256"] != given.data["engine"]["sha256"])


def _made_of(job: Job, hashes: Dict[str, str], data: Dict[str, Any]) -> bool:
    """Whether a release was exported from these very files, and would be made again just as it is."""
    if data.get("export") != manifest.model_key(job.spec, hashes):
        return False
    try:
        version, files = int(data["version"]), data["files"]
        onnx = job.store.folder(job.spec.name, version) / layout.ONNX
        again = job.fingerprint(hashes, onnx, files[layout.ONNX], files[layout.GOLDEN], data["weights"])
    except (BuilderError, OSError, KeyError, TypeError, ValueError):
        return False  # its ONNX file, say, cannot be read
    return bool(again == data["fingerprint"])


def _makeshift(spec: Spec, weights: Dict[str, Any]) -> bool:
    """Whether these are untrained weights in place of the trained ones that the spec names."""
    asked = spec.source.weights
    return bool(weights["untrained"]) and asked is not None and asked.kind != "untrained"


def _warn(spec: Spec, weights: Dict[str, Any]) -> None:
    if weights["untrained"]:
        progress.say(f"{spec.name}: WARNING: weights are {weights['description']}")
        if _makeshift(spec, weights):
            progress.say(f"{spec.name}: trained weights, from the package index: --model {TRAINED}")


def _tell(spec: Spec, proof: Dict[str, Any]) -> None:
    progress.say(f"{spec.name}: {proof['noticed']} of {proof['mutants']} mutants noticed")
    for row in proof["passed"]:
        progress.say(f"{spec.name}: not noticed: {row['mutant']} ({row['reason']})")


def _make(
    job: Job,
    export: Export,
    gate: Optional[Gate],
    release: Path,
    work: Path,
    version: int,
    began: float,
) -> Dict[str, Any]:
    """Fill the release folder; returns what the manifest says of it."""
    spec, engine = job.spec, job.engine
    gpu = job.identity["gpu"]
    ready = job.given if job.given is not None and job.given.fits else None
    what = f"{job.identity['name']} {job.identity['version']}, {gpu['name'] if gpu else 'CPU'}"
    progress.say(f"{spec.name}: {'taking over' if ready else 'building'} release {version} ({what})")
    (release / "model" / str(version)).mkdir(parents=True)
    inputs, outputs = golden.load(export.golden, spec)
    _warn(spec, export.weights)
    unheard = ignored(spec, engine)
    if unheard:
        progress.say(f"{spec.name}: {engine.name} has no {', '.join(unheard)}: ignored here")
    seconds = {"export": time.monotonic() - began}
    if gate is not None:
        gate.before(export.fp32, work)
    model = release / "model"
    file = model / str(version) / engine.filename
    cache = EngineCache(job.store.cache, engine, job.identity)
    with progress.step(f"{spec.name}: {engine.name} engine"):
        built = ready.place(file, work) if ready else cache.build(
            spec, export.onnx, file, work,
            fresh=job.force, refused=_failed_engines(job),
            before=lambda: quiet.before_build(job.quiet_gpu) if gpu else None,
        )  # fmt: skip
    seconds["engine"] = built.seconds
    verifying = time.monotonic()
    with progress.step(f"{spec.name}: parity at batch {', '.join(map(str, spec.batch.sizes()))}"):
        verified = parity.verify(spec, engine, file, inputs, outputs, work)
        answers = {**verified.answers, **_verify_free_dimensions(job, export, file, work, verified.figures)}
    with progress.step(f"{spec.name}: what the golden samples would notice"):
        proof = power.measure(
            spec, engine, file, inputs, outputs, verified, work, untrained=export.weights["untrained"]
        )
    _tell(spec, proof)
    verified.figures["reference"] = export.reference
    evaluation = _evaluate(job, gate, file, export.fp32, work, release) if gate is not None else None
    seconds["verify"] = time.monotonic() - verifying
    (model / "config.pbtxt").write_text(config_pbtxt(spec, engine, export.weights, version), "utf-8")
    for output in spec.outputs:
        if output.labels is not None:
            shutil.copyfile(output.labels, model / labels_name(spec, output.name))
    kept: List[Any] = [(export.onnx, layout.ONNX), (export.golden, layout.GOLDEN), (work / LOG, LOG)]
    for path, name in kept:
        shutil.copyfile(path, release / name)
    golden.save(release / layout.VERIFIED, {}, answers)
    quantized = _report(export, release)
    if job.given is not None:
        evaluation, quantized = job.given.reports(release)
    seconds["all"] = time.monotonic() - began
    cache.keep(spec, export.onnx, file, work, built)
    return {
        "engine": {
            **built.identity,
            "file": engine.filename,
            "bytes": file.stat().st_size,
            "sha256": hashing.of_path(file),
            "argv": built.argv,
            "cached": built.cached,
            "gpu_busy_percent": built.gpu_busy_percent,
        },
        "weights": export.weights,
        "parity": verified.figures,
        "proof": proof,
        "evaluation": evaluation,
        "ignored": unheard,
        "seconds": seconds,
        "quantization": quantized,
        "origin": job.given and dict(job.given.origin),
    }


def _failed_engines(job: Job) -> List[str]:
    """The engines of releases that failed: another build may give a better one."""
    releases = ModelReleases(job.store, job.spec.name)
    found = []
    for version in releases.versions:
        if releases.failure(version) is not None:
            with contextlib.suppress(BuilderError, KeyError):
                found.append(job.store.manifest(job.spec.name, version)["engine"]["sha256"])
    return found


def _evaluate(job: Job, gate: Gate, file: Path, onnx: Path, work: Path, release: Path) -> Dict[str, Any]:
    live = job.store.live(job.spec.name)
    return gate.after(
        job.engine, file, onnx, work,
        release=release,
        live=None if live is None else (live, job.store.folder(job.spec.name, live)),
        logs=job.store.volume.logs,
    )  # fmt: skip


def _hold_to_live(job: Job, done: Dict[str, Any]) -> None:
    """A release that is there already is held to the live one too, before it takes its place."""
    live, version = done["live"], done["version"]
    if live is not None and live != version:
        folders = [job.store.folder(job.spec.name, v) for v in (version, live)]
        hold_published(job.spec, (version, folders[0]), (live, folders[1]))


def _report(export: Export, release: Path) -> Optional[Dict[str, Any]]:
    """Put the quantization's report into the release; returns what the manifest says of it."""
    if export.quantization is None:
        return None
    from builder.quantize import make  # imports onnxruntime

    made = export.quantization
    make.write(release, "", made.report, made.page)
    return make.summary(made.report)


def _verify_free_dimensions(
    job: Job, export: Export, file: Path, work: Path, figures: Dict[str, Any]
) -> golden.Arrays:
    """The gate at both ends of the free dimensions too; adds those figures as ``by_shape``.

    What is served may then be as far off as it was at any of the three points. Returns the engine's answers.
    """
    answers: golden.Arrays = {}
    for point in job.spec.points[1:]:
        if not golden.has(export.golden, job.spec, point):
            progress.say(f"{job.spec.name}: no golden samples at the {point} of the free dimensions")
            continue
        inputs, outputs = golden.load(export.golden, job.spec, point)
        found = parity.verify(job.spec, job.engine, file, inputs, outputs, work)
        answers.update({golden.at(name, point): array for name, array in found.answers.items()})
        shapes = {i.name: list(i.shape(point)) for i in job.spec.inputs}
        row = {"point": point, "inputs": shapes, "top1": found.figures["top1"]}
        figures.setdefault("by_shape", []).append({**row, "max_abs": found.figures["max_abs"]})
        figures["max_abs"] = max(figures["max_abs"], found.figures["max_abs"])
        for name, served in found.figures["served"].items():
            mine = figures["served"][name]
            figures["served"][name] = {key: max(value, mine[key]) for key, value in served.items()}
    return answers
