"""The Compose files, the Dockerfiles and .env read as data: what can be known without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ops.runtimes.detection import OLDEST_COMPOSE, OLDEST_ENGINE, base_images
from ops.runtimes.docker.naming import CPU_FILE, DEVICE_LABEL
from ops.services import prometheus
from ops.services.containers import GATEWAY_FILE
from ops.settings import load
from support.stack import ROOT

DOCKERFILES = (
    "builder/Dockerfile",
    "client/Dockerfile",
    "gateway/Dockerfile",
    "monitoring/exporter/Dockerfile",
    "triton/Dockerfile",
    "triton/Dockerfile.cpu",
)
KNOB = re.compile(r"\$\{(\w+)")


class Loader(yaml.SafeLoader):
    """Compose's own tags: `!reset` takes something away."""


Loader.add_constructor("!reset", lambda _loader, _node: "RESET")


def read(name: str) -> dict[str, Any]:
    return dict(yaml.load((ROOT / name).read_text(), Loader))  # noqa: S506  (a SafeLoader)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(read("compose.yaml")["services"])


@pytest.fixture(scope="module")
def defaults() -> dict[str, str]:
    lines = (ROOT / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_service_has_its_profile(services: dict[str, Any], defaults: dict[str, str]) -> None:
    profiles = {name: service["profiles"] for name, service in services.items()}
    assert profiles == {
        "builder": ["build"],
        "triton": ["serve"],
        "client": ["smoke"],
        "agent": ["agent"],
        "gateway": ["gateway"],
        "pictures": ["gateway"],
        "shadow": ["gateway"],
        **{name: ["monitoring"] for name in ("exporter", "prometheus", "grafana")},
    }
    assert defaults["COMPOSE_PROFILES"] == "build,serve,smoke", "a plain `docker compose up` runs all three"
    assert set(read(CPU_FILE)["services"]) <= set(services)


def test_every_service_is_hardened_and_limited(services: dict[str, Any]) -> None:
    for name, service in services.items():
        # Prometheus' image gives its volume to its own user, who may do as little as ours.
        user = "65534" if name == "prometheus" else "1000"
        assert service["user"] == f"{user}:{user}", name
        assert service["read_only"] is True
        assert service["init"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}
        assert any(mount.startswith("/tmp:") and f"uid={user}" in mount for mount in service["tmpfs"])  # noqa: S108
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & set(service)


def test_the_gpu_goes_to_builder_and_server_and_the_cpu_file_takes_it_back(services: dict[str, Any]) -> None:
    cpu = read(CPU_FILE)["services"]
    for name in ("builder", "triton"):
        [device] = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
        assert cpu[name]["deploy"] == "RESET"
    assert "deploy" not in services["client"]
    assert "nvcr.io" not in (ROOT / CPU_FILE).read_text()
    assert services["triton"]["labels"][DEVICE_LABEL] == "gpu"
    assert cpu["triton"]["labels"][DEVICE_LABEL] == "cpu"


def test_one_tag_drives_both_nvidia_images(services: dict[str, Any]) -> None:
    for name, knob, image in (
        ("builder", "TENSORRT_IMAGE", "tensorrt"),
        ("triton", "TRITON_IMAGE", "tritonserver"),
    ):
        base = services[name]["build"]["args"]["BASE_IMAGE"]
        assert base == "${%s:-nvcr.io/nvidia/%s:${NGC_TAG:-22.11}-py3}" % (knob, image)  # noqa: UP031  (braces)
        assert services[name]["image"].endswith(":${NGC_TAG:-22.11}")


def test_only_the_builder_writes_the_volume(services: dict[str, Any]) -> None:
    assert "models:/models" in services["builder"]["volumes"]
    assert services["triton"]["volumes"] == ["models:/models:ro", "claims:/run/claims"]
    assert services["client"]["volumes"] == ["models:/models:ro"]
    assert "models:/models:ro" in services["gateway"]["volumes"]
    assert services["exporter"]["volumes"] == ["models:/models:ro"]


def test_with_the_gateway_s_file_triton_is_published_no_more(services: dict[str, Any]) -> None:
    assert read(GATEWAY_FILE)["services"] == {"triton": {"ports": "RESET"}}
    tls, metrics = services["gateway"]["ports"]
    assert tls == "${GATEWAY_ADDRESS:-0.0.0.0}:${GATEWAY_PORT:-8443}:8443"
    assert metrics == "127.0.0.1:${GATEWAY_METRICS_PORT:-8404}:8404", "metrics stay on this machine"


def test_the_order_of_things(services: dict[str, Any]) -> None:
    assert services["triton"]["depends_on"] == {
        "builder": {"condition": "service_completed_successfully", "required": False}
    }
    assert services["client"]["depends_on"] == {"triton": {"condition": "service_healthy", "required": False}}
    assert services["triton"]["restart"] == "unless-stopped"
    assert "restart" not in services["builder"]
    assert services["triton"]["healthcheck"]["test"] == ["CMD", "python3", "/opt/triton/health.py"]


def test_ports_stay_on_this_machine_unless_told_otherwise(
    services: dict[str, Any], defaults: dict[str, str]
) -> None:
    assert defaults["BIND_ADDRESS"] == "127.0.0.1"
    targets = {}
    for port in services["triton"]["ports"]:
        assert port.startswith("${BIND_ADDRESS:-127.0.0.1}:")
        knob, target = re.fullmatch(r".*:\$\{(\w+):-(?:\d+)\}:(\d+)", port).groups()  # type: ignore[union-attr]
        targets[knob] = target
        assert defaults[knob] == target
    assert targets == {"HTTP_PORT": "8000", "GRPC_PORT": "8001", "METRICS_PORT": "8002"}


def test_docker_waits_longer_than_triton_drains(defaults: dict[str, str], services: dict[str, Any]) -> None:
    assert int(defaults["STOP_GRACE_SECS"]) > int(defaults["EXIT_TIMEOUT_SECS"])
    assert services["triton"]["stop_grace_period"] == "${STOP_GRACE_SECS:-45}s"
    patience = 3 * int(defaults["UNHEALTHY_AFTER"])
    assert services["triton"]["healthcheck"]["interval"] == "3s"
    assert patience > int(defaults["POLL_SECS"]), "a release is not seen before the next poll"


def test_every_knob_is_in_env_and_its_default_is_the_files(defaults: dict[str, str]) -> None:
    text = (ROOT / "compose.yaml").read_text() + (ROOT / CPU_FILE).read_text()
    used = {
        line for part in text.splitlines() if not part.lstrip().startswith("#") for line in KNOB.findall(part)
    }
    assert used <= set(defaults), "each knob of the Compose files has its line in .env"
    for knob, default in re.findall(r"\$\{(\w+):-([^${}]*)\}", text):
        if defaults[knob]:
            assert defaults[knob] == default, f"{knob}: .env and the Compose files differ"


def test_every_knob_says_why() -> None:
    lines = (ROOT / ".env").read_text().splitlines()
    explained = False
    for line in lines:
        if not line:
            explained = False
        elif line.startswith("#"):
            explained = True
        else:
            assert explained, f"{line}: no line of why above it"


def test_scripts_know_the_same_bases(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = ("TENSORRT_IMAGE", "TRITON_IMAGE", "PYTHON_IMAGE", "BUILDER_PYTHON_IMAGE")
    settings = load({**dict.fromkeys(knobs, ""), "NGC_TAG": "24.08"})
    python = services["client"]["build"]["args"]["BASE_IMAGE"].partition(":-")[2].rstrip("}")
    assert base_images(settings, "cpu") == [python]
    assert base_images(settings, "gpu") == [
        "nvcr.io/nvidia/tensorrt:24.08-py3",
        "nvcr.io/nvidia/tritonserver:24.08-py3",
        services["builder"]["build"]["args"]["PYTHON_IMAGE"].partition(":-")[2].rstrip("}"),
        python,
    ]
    cpu = read(CPU_FILE)["services"]
    # On a CPU the builder's base and the image that its Python comes from are one: nothing is copied.
    args = [*cpu["builder"]["build"]["args"].values(), *cpu["triton"]["build"]["args"].values()]
    assert set(args) == {services["client"]["build"]["args"]["BASE_IMAGE"]}
    assert set(cpu["builder"]["build"]["args"]) == {"BASE_IMAGE", "PYTHON_IMAGE"}


def test_one_oldest_engine_and_compose() -> None:
    engine, compose = (".".join(map(str, v)) for v in (OLDEST_ENGINE, OLDEST_COMPOSE))
    assert f"Docker Engine {engine} and Compose {compose} or newer" in (ROOT / "compose.yaml").read_text()
    ci = (ROOT / ".ci" / "engine").read_text()
    assert f"ENGINE_MIN={engine}\nCOMPOSE_MIN={compose}\n" in ci


@pytest.mark.parametrize("name", DOCKERFILES)
def test_dockerfiles(name: str) -> None:
    text = (ROOT / name).read_text()
    instructions = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert instructions[0].startswith("ARG BASE_IMAGE="), "one build argument names the base, with a default"
    bases = {"${BASE_IMAGE}", "${PYTHON_IMAGE}"} if name == "builder/Dockerfile" else {"${BASE_IMAGE}"}
    assert {line.split()[1] for line in instructions if line.startswith("FROM")} == bases
    assert not text.startswith("# syntax"), "that would be fetched from a registry"
    assert "USER 1000:1000" in instructions
    assert [line for line in instructions if line.startswith("ENTRYPOINT")]
    assert "install -d -o 1000 -g 1000 /models /models/repository" in text
    assert "org.opencontainers.image.title" in text
    for part in text.split("\nRUN ")[1:]:
        if "pip install" in part:
            assert "--require-hashes" in part
            assert "--no-deps" in part
            assert "--mount=type=cache" in part
            assert part.count("--mount=type=secret") == 2
    assert not re.search(r"^(ENV|ARG) .*(PIP_|INDEX|PROXY|CERT)", text, re.MULTILINE)


def test_a_build_sees_only_what_images_hold() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert kept == [
        "builder",
        "client",
        "cluster",
        "gateway",
        "models_volume",
        "monitoring",
        "scripts",
        "triton",
    ]
    sources = {
        s
        for name in DOCKERFILES
        for s in re.findall(r"^COPY (?!--from)(.+)$", (ROOT / name).read_text(), re.M)
    }
    for source in sources:
        for word in source.split()[:-1]:
            assert Path(word).parts[0] in kept


def test_monitoring_is_for_this_machine_alone_and_has_no_password(services: dict[str, Any]) -> None:
    names = [name for name, service in services.items() if service["profiles"] == ["monitoring"]]
    for name in names:
        assert [port.partition(":")[0] for port in services[name]["ports"]] == ["127.0.0.1"]
        for mount in services[name]["volumes"]:
            assert mount.endswith(":ro") or mount == "prometheus:/prometheus"
    grafana = services["grafana"]["environment"]
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert grafana["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert grafana["GF_AUTH_BASIC_ENABLED"] == "false"
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true", "or there is admin, with admin"
    for name in ("prometheus", "grafana"):
        assert re.search(r":-[a-z]+/[a-z]+:v?\d+\.\d+\.\d+\}$", services[name]["image"]), "pinned by its tag"


def test_prometheus_keeps_and_shows_the_same_with_and_without_docker(services: dict[str, Any]) -> None:
    command = services["prometheus"]["command"]
    assert f"--storage.tsdb.retention.time={prometheus.KEPT}" in command
    mounts = dict(mount.split(":")[1::-1] for mount in services["prometheus"]["volumes"])
    assert mounts["/etc/prometheus"] == f"./{prometheus.FILES.relative_to(ROOT)}"
    places = {services[job]["ports"][0].rsplit(":", 1)[1] for job in ("exporter", "prometheus")}
    assert places == {"9105", "9090"}
    config = yaml.safe_load((prometheus.FILES / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets["exporter"] == ["exporter:9105"]
    assert targets["triton"] == [f"triton:{services['triton']['ports'][2].rsplit(':', 1)[1]}"]
    assert targets["gateway"] == [f"gateway:{services['gateway']['ports'][1].rsplit(':', 1)[1]}"]
