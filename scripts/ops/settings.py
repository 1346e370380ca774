"""The knobs: ``.env`` beside compose.yaml, overridden by the environment."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from ops import console
from ops.errors import OpsError

ROOT = Path(__file__).resolve().parents[2]
PORTS_APART = 100  # between the ports of two native servers on one machine
_DOCKER = (
    "COMPOSE_FILE",
    "COMPOSE_PROJECT_NAME",
    "PYTHON_IMAGE",
    "BUILDER_PYTHON_IMAGE",
    "GRAFANA_IMAGE",
    "PROMETHEUS_IMAGE",
    "STOP_GRACE_SECS",
    "TENSORRT_IMAGE",
    "TRITON_IMAGE",
)

# What the cluster's commands read themselves ...
REGISTRY = (
    "REGISTRY",
    "REGISTRY_INSECURE",
    "REGISTRY_CA",
    "RELEASE_SIGNING_KEY",
    "RELEASE_PUBLIC_KEY",
)
# ... and with it the builder and the server.
_PASSED_ON = (
    *REGISTRY,
    "TRTEXEC",
    "TRITON_BACKENDS",
    "TRITON_ARGS",
    "TRITON_ID",
)
# Numbers that triton/entrypoint reads, with the least and the most of each; empty is Triton's own default.
_SERVER = {
    "GRPC_ALLOCATION_POOL": (0, 1_000_000),
    "PINNED_POOL_MB": (0, 1_000_000),
    "CUDA_POOL_MB": (0, 1_000_000),
    "HTTP_THREADS": (1, 4096),
    "COPY_THREADS": (0, 256),
}

# Variables that are no knobs: what one of our processes tells another ...
INTERNAL = {
    "ACCESS_LOG_ADDRESS": "where the gateway sends lines of its access log",
    "BACKENDS_DIR": "where the CPU server lays out its backends",
    "BUILDER_LEASH": "that the caller holds the builder by its standard input",
    "DRAIN_SECS": "how long a server that is told to stop goes on answering first, in a swarm",
    "COMPOSE_PATH_SEPARATOR": "how Compose reads the COMPOSE_FILE that we make for it",
    "CUDA_DEVICE_ORDER": "how CUDA numbers the GPUs: as nvidia-smi does",
    "CUDA_VISIBLE_DEVICES": "the GPU of builder and server without Docker",
    "PCI_BUS_ID": "the value of CUDA_DEVICE_ORDER",
    "PROMETHEUS_CONFIGURATION": "the digest of what Prometheus was started with, so that a change is seen",
    "ENGINE": "the builder's engine in its container, which the Compose files set",
    "GATEWAY_FOLDER": "where the gateway keeps its configuration, maps and sockets",
    "GATEWAY_METRICS_ADDRESS": "what the gateway's metrics listen on",
    "GPU_CLAIMS": "where servers in containers lock the GPU that each has taken",
    "HAPROXY": "the HAProxy that the gateway runs",
    "HEALTHY_EMPTY": "that a server which has nothing to serve yet is healthy, in a swarm",
    "MODEL_REPOSITORY": "Triton's part of the models volume",
    "PICTURES_ADDRESS": "where the gateway finds the picture service",
    "SHADOW_ADDRESS": "where the gateway sends copies of requests",
    "STACK_DETAILS": "whether the builder hides how its work goes on",
    "STACK_STARTED": "when the command began, for lines of progress",
    "TRITON_HOST": "where a client in a container finds the server",
}
# ... and what other programs have defined.
FOREIGN = (
    "ALL_PROXY", "COSIGN_PASSWORD", "DOCKER_CONFIG", "HOME", "HTTPS_PROXY", "LD_LIBRARY_PATH", "NO_COLOR",
    "PATH", "PYTHONPATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "TF_CPP_MIN_LOG_LEVEL",
    "TF_ENABLE_ONEDNN_OPTS", "UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_HTTP_RETRIES", "UV_HTTP_TIMEOUT",
    "UV_INDEX", "UV_INDEX_STRATEGY", "UV_INDEX_URL", "UV_INSECURE_HOST", "UV_NO_INDEX",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The checked knobs; ports are TCP ports, ``*_secs`` seconds."""

    http_port: int
    grpc_port: int
    metrics_port: int
    bind_address: str
    poll_secs: int
    native_poll_secs: int  # the same without Docker
    exit_timeout_secs: int
    load_secs: int
    build_secs: int
    models_dir: Path
    models: str
    ngc_tag: str
    gpu_id: str
    triton_count: int
    triton_gpus: List[str]  # for several servers; none: those that nvidia-smi lists
    gateway_port: int
    gateway_address: str
    gateway_metrics_port: int
    keys_file: Path
    pictures_port: int
    shadow_port: int
    access_log_port: int
    exporter_port: int
    prometheus_port: int
    grafana_port: int
    server: Mapping[str, str]  # numbers for triton/entrypoint, as text; those that are given
    docker: Mapping[str, str]  # what only Compose reads, as text; empty where it is left to its default

    @property
    def ports(self) -> Dict[str, int]:
        """The three ports by the variable that sets each."""
        return {
            "HTTP_PORT": self.http_port,
            "GRPC_PORT": self.grpc_port,
            "METRICS_PORT": self.metrics_port,
        }

    @property
    def host(self) -> str:
        """Where a client on this machine finds the server."""
        return "127.0.0.1" if self.bind_address in ("", "0.0.0.0") else self.bind_address  # noqa: S104  (compared, not bound)

    def at(self, ports: Mapping[str, Any], bind_address: Optional[str]) -> Settings:
        """These settings with a running server's ports and address, as far as they are known."""
        return dataclasses.replace(
            self,
            http_port=ports.get("HTTP_PORT", self.http_port),
            grpc_port=ports.get("GRPC_PORT", self.grpc_port),
            metrics_port=ports.get("METRICS_PORT", self.metrics_port),
            bind_address=bind_address or self.bind_address,
        )

    @property
    def address(self) -> Dict[str, str]:
        """Where the server is, as variables that the client reads."""
        return {**{name: str(port) for name, port in self.ports.items()}, "TRITON_HOST": self.host}

    @property
    def run_dir(self) -> Path:
        """Process state, logs and backends of the native server."""
        return self.models_dir / "run"

    def python_environment(self) -> Dict[str, str]:
        """For the builder and the client: ``environment``, with the folders that hold their packages."""
        given = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(ROOT), str(ROOT / "client"), *([given] if given else [])])
        return {**self.environment(), "PYTHONPATH": path}

    def environment(self) -> Dict[str, str]:
        """For child processes: this process's environment with every knob set."""
        return {
            **os.environ,
            **self.address,
            "BIND_ADDRESS": self.bind_address,
            "POLL_SECS": str(self.poll_secs),
            "EXIT_TIMEOUT_SECS": str(self.exit_timeout_secs),
            "BUILD_SECS": str(self.build_secs),
            "MODELS_DIR": str(self.models_dir),
            "MODEL_REPOSITORY": str(self.models_dir / "repository"),
            "NGC_TAG": self.ngc_tag,
            **self.server,
            **{name: value(name) for name in _PASSED_ON if value(name)},
            **console.started(),
        }


def load(environ: Mapping[str, str] = os.environ, file: Path = ROOT / ".env") -> Settings:
    """Read the knobs; raises OpsError naming the one that is wrong."""
    values = {**_parse(file), **{k: v for k, v in environ.items() if v}}
    ports = {name: _whole(values, name, 1, 65535) for name in ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")}
    if len(set(ports.values())) != 3:
        raise OpsError(
            f"HTTP_PORT, GRPC_PORT and METRICS_PORT are {sorted(ports.values())}: they must differ"
        )
    native_poll = "POLL_SECS" if environ.get("POLL_SECS") else "NATIVE_POLL_SECS"
    return Settings(
        http_port=ports["HTTP_PORT"],
        grpc_port=ports["GRPC_PORT"],
        metrics_port=ports["METRICS_PORT"],
        bind_address=_text(values, "BIND_ADDRESS"),
        poll_secs=_whole(values, "POLL_SECS", 1, 86400),
        native_poll_secs=_whole(values, native_poll, 1, 86400),
        exit_timeout_secs=_whole(values, "EXIT_TIMEOUT_SECS", 0, 3600),
        load_secs=_whole(values, "LOAD_SECS", 1, 3600),
        build_secs=_whole(values, "BUILD_SECS", 1, 604800),
        models_dir=(ROOT / _text(values, "MODELS_DIR")).resolve(),
        models=_text(values, "MODELS"),
        ngc_tag=_text(values, "NGC_TAG"),
        gpu_id=_gpu(values),
        triton_count=_count(values, ports),
        triton_gpus=values.get("TRITON_GPUS", "").replace(",", " ").split(),
        gateway_port=_whole(values, "GATEWAY_PORT", 1, 65535),
        gateway_address=_text(values, "GATEWAY_ADDRESS"),
        gateway_metrics_port=_whole(values, "GATEWAY_METRICS_PORT", 1, 65535),
        keys_file=(ROOT / _text(values, "KEYS_FILE")).resolve(),
        pictures_port=_whole(values, "PICTURES_PORT", 1, 65535),
        shadow_port=_whole(values, "SHADOW_PORT", 1, 65535),
        access_log_port=_whole(values, "ACCESS_LOG_PORT", 1, 65535),
        exporter_port=_whole(values, "EXPORTER_PORT", 1, 65535),
        prometheus_port=_whole(values, "PROMETHEUS_PORT", 1, 65535),
        grafana_port=_whole(values, "GRAFANA_PORT", 1, 65535),
        server={
            name: str(_whole(values, name, low, high))
            for name, (low, high) in _SERVER.items()
            if values.get(name)
        },
        docker={name: values.get(name, "") for name in _DOCKER},
    )


def value(name: str, environ: Mapping[str, str] = os.environ, file: Path = ROOT / ".env") -> str:
    """A knob that is read before ``load``: the environment's, or .env's; empty where neither has it."""
    try:
        return environ.get(name) or _parse(file).get(name, "")
    except OpsError:  # load() says what is wrong with the file
        return ""


def known(name: str, file: Path = ROOT / ".env") -> bool:
    """Whether there is a knob of that name."""
    return name in _parse(file)


def folder(name: str, default: str) -> Path:
    """A knob that names a folder, as an absolute path; a relative one begins at the checkout."""
    return ROOT / (value(name) or default)


def _parse(file: Path) -> Dict[str, str]:
    """KEY=VALUE lines, as Compose reads them; # begins a comment."""
    values: Dict[str, str] = {}
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise OpsError(f"{file}: cannot be read: {e}", remedy="git checkout .env") from e
    for number, line in enumerate(lines, 1):
        text = line.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise OpsError(f'{file}:{number}: found "{text}", expected KEY=VALUE')
        values[key.strip()] = value.strip().strip("\"'")
    return values


def _text(values: Mapping[str, str], name: str) -> str:
    if not values.get(name):
        raise OpsError(f"{name} is not set", remedy=f"set {name} in the environment or in .env")
    return values[name]


def _gpu(values: Mapping[str, str]) -> str:
    text = _text(values, "GPU_ID")
    if not re.fullmatch(r"[0-9]{1,3}|(GPU|MIG)-[\w/-]+", text, re.ASCII):
        raise OpsError(
            f'GPU_ID is "{text}"; allowed is one GPU, by its number or its UUID (GPU-..., MIG-...)',
            remedy="nvidia-smi -L lists them; set GPU_ID in the environment or in .env",
        )
    return text


def _count(values: Mapping[str, str], ports: Mapping[str, int]) -> int:
    """TRITON_COUNT; raises OpsError also where the servers' ports would be one another's, or none."""
    count = _whole(values, "TRITON_COUNT", 1, 64)
    every = [port + PORTS_APART * number for number in range(count) for port in ports.values()]
    if len(set(every)) != len(every) or max(every) > 65535:
        raise OpsError(
            f"TRITON_COUNT is {count}; without Docker each server's ports are {PORTS_APART} above those of "
            f"the one before, and with {dict(ports)} some are the same, or above 65535",
            remedy="choose other ports: HTTP_PORT, GRPC_PORT, METRICS_PORT",
        )
    return count


def _whole(values: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = values.get(name, "")
    if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise OpsError(
            f'{name} is "{text}"; allowed is a whole number from {low} to {high}',
            remedy=f"set {name} in the environment or in .env",
        )
    return int(text)
