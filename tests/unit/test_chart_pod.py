"""The pod of the Helm chart, held to the Compose files and to the code that runs in it."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ops import operation_lock, settings
from ops.services.agent import NodeAgent
from support import helm
from support.helm import (
    ALL,
    CHART,
    CPU,
    DAEMONSET,
    GATEWAY,
    MONITORING,
    REQUIRED,
    SECRETS,
    SERVICES,
    VARIANTS,
    Document,
    Values,
    container,
    environment,
    one,
    pod,
)
from support.stack import ROOT

from cluster.agent import command, servers
from cluster.registry.references import RegistrySettings
from gateway import certificate, options
from monitoring.exporter import __main__ as exporter


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"])


@pytest.fixture(scope="module")
def defaults() -> dict[str, str]:
    lines = (ROOT / ".env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def resolved(text: object, defaults: dict[str, str]) -> str:
    """As Compose fills in ${KNOB:-default} and ${KNOB:+instead}."""
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: defaults[m[1]] or m[2], str(text))
    return re.sub(r"\$\{(\w+):\+([^}]*)\}", lambda m: m[2] if defaults[m[1]] else "", text)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_container_is_hardened_and_limited(variant: str, compose: dict[str, Any]) -> None:
    documents = helm.render(VARIANTS[variant])
    spec = pod(documents)
    user, group = map(int, compose["triton"]["user"].split(":"))
    security = spec["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (user, group, group)
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec)
    for part in [*spec["initContainers"], *spec["containers"]]:
        assert part["securityContext"] == {
            "allowPrivilegeEscalation": False,  # no-new-privileges
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(part["resources"]["requests"]), part["name"]
        assert part["resources"]["limits"]["memory"], part["name"]
        assert environment(part).get("NVIDIA_VISIBLE_DEVICES", "void") == "void", (
            "the device plugin says which"
        )
        mounts = {m["name"]: m.get("readOnly", False) for m in part["volumeMounts"]}
        assert mounts["models"] is (part["name"] not in ("agent", "models-volume"))
        if part in spec["containers"]:
            assert f"{part['name']}-tmp" in mounts
            assert part["livenessProbe"]


def test_services_of_the_namespace_set_no_settings() -> None:
    """A Service called prometheus would make PROMETHEUS_PORT tcp://10.0.0.1:9090."""
    assert pod(helm.render())["enableServiceLinks"] is False


# What is another thing in a pod, by container: the rest of each environment is Compose's.
OWN = {
    # One GPU a pod, and no sharing of several by locks.
    "triton": {"TRITON_ID", "TRITON_COUNT", "TRITON_GPUS", "GPU_CLAIMS"},
    "agent": {
        "TRITON_ID", "NODE_NAME", "TRITON_SERVERS", "AGENT_MODELS", "REGISTRY", "REGISTRY_AUTH",
        "REGISTRY_CA", "REGISTRY_INSECURE", "RELEASE_PUBLIC_KEY", "DOCKER_CONFIG",
    },
    "gateway": {
        "GATEWAY_FOLDER", "GATEWAY_CERT", "KEYS_FILE", "TRITON_SERVERS", "PICTURES_ADDRESS", "SHADOW_ADDRESS",
        "ACCESS_LOG_ADDRESS",
    },
    "pictures": {"TRITON_HOST"},
    "shadow": {"TRITON_HOST"},
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_settings_are_those_of_compose(name: str, compose: dict[str, Any], defaults: dict[str, str]) -> None:
    wanted = {k: resolved(v, defaults) for k, v in compose[name]["environment"].items()}
    found = environment(container(helm.render(ALL), name))
    assert {k: v for k, v in found.items() if k not in {*OWN[name], "NODE"}} == {
        k: v for k, v in wanted.items() if v and k not in OWN[name]
    }


@pytest.mark.parametrize("name", [*OWN, "exporter"])
def test_memory_is_that_of_compose(name: str, compose: dict[str, Any], defaults: dict[str, str]) -> None:
    documents = helm.render(ALL, CPU)
    part = container(documents, name)
    limit = quantity(resolved(compose[name]["mem_limit"], defaults))
    assert part["resources"]["limits"]["memory"] == limit
    volumes = {v["name"]: v for v in pod(documents)["volumes"]}
    mounts = {m["mountPath"]: volumes[m["name"]] for m in part["volumeMounts"] if m["name"] in volumes}
    cpu = yaml.safe_load(re.sub("!reset", "", (ROOT / "compose.cpu.yaml").read_text("utf-8")))["services"]
    for text in [*compose[name]["tmpfs"], *cpu.get(name, {}).get("tmpfs", [])]:
        folder, _, words = text.partition(":")
        size = quantity(words.rpartition("size=")[2])
        assert mounts[folder]["emptyDir"] == {"medium": "Memory", "sizeLimit": size}
    if "shm_size" in compose[name]:
        size = quantity(resolved(compose[name]["shm_size"], defaults))
        assert mounts["/dev/shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": size}  # noqa: S108


def quantity(size: str) -> str:
    """8g as Kubernetes writes it."""
    return re.sub("([kmg])$", lambda m: f"{m[1].upper()}i", size)


def test_what_runs_is_what_compose_runs(compose: dict[str, Any], defaults: dict[str, str]) -> None:
    documents = helm.render(ALL)
    parts = {c["name"]: c for c in pod(documents)["containers"]}
    assert parts["agent"]["command"] == compose["agent"]["entrypoint"]
    assert parts["agent"]["livenessProbe"]["exec"]["command"] == compose["agent"]["healthcheck"]["test"][1:]
    ready = parts["triton"]["readinessProbe"]
    assert ready["exec"]["command"] == compose["triton"]["healthcheck"]["test"][1:]
    assert f"{ready['periodSeconds']}s" == compose["triton"]["healthcheck"]["interval"]
    for name in ("pictures", "shadow"):
        assert parts[name]["livenessProbe"]["exec"]["command"] == compose[name]["healthcheck"]["test"][1:]
        # On loopback only: nobody in front of it but the pod's own gateway.
        assert parts[name]["args"] == [name, "--host", "127.0.0.1"]
    assert (
        parts["exporter"]["livenessProbe"]["exec"]["command"]
        == compose["exporter"]["healthcheck"]["test"][1:]
    )
    args = [resolved(a, defaults) for a in compose["exporter"]["command"]]
    local = [a.replace("triton:", "127.0.0.1:").replace("gateway:", "127.0.0.1:") for a in args]
    assert parts["exporter"]["args"] == local
    assert exporter._arguments(local).triton == ("127.0.0.1", 8000)


def test_images_are_named_as_compose_names_them() -> None:
    def images(*values: Values) -> dict[str, str]:
        return {c["name"]: c["image"] for c in pod(helm.render(ALL, *values))["containers"]}

    assert images()["triton"] == "registry.example/server:22.11"
    assert images()["agent"] == "registry.example/builder:22.11"
    assert images(CPU)["triton"] == "registry.example/server:cpu"
    assert images()["gateway"] == "registry.example/gateway:latest"
    assert images()["pictures"] == images()["shadow"] == "registry.example/client:latest"
    digest = "sha256:" + "a" * 64
    assert images({"triton": {"image": {"digest": digest}}})["triton"] == f"registry.example/server@{digest}"
    assert images({"settings": {"NGC_TAG": "24.08"}})["agent"] == "registry.example/builder:24.08"


def test_the_agent_reads_its_settings(tmp_path: Path) -> None:
    values = {"settings": {"POLL_SECS": 7, "LOAD_SECS": 9}, "nodeNamePrefix": "east-"}
    documents = helm.render(SECRETS, values)
    part = container(documents, "agent")
    mount = next(m for m in part["volumeMounts"] if m["name"] == "settings")
    assert (mount["mountPath"], mount["subPath"]) == ("/app/.env", ".env")
    file = tmp_path / ".env"
    file.write_text(one(documents, "ConfigMap")["data"][".env"])
    given = environment(part)
    read = settings.load(given, file)
    assert (read.poll_secs, read.load_secs, str(read.models_dir)) == (7, 9, "/models")
    assert command.name(given) == "east-node-a"
    assert command.models(given, tmp_path) == REQUIRED["models"]
    assert command.seconds(given, "AGENT_SECS", 0) == 5
    [place] = servers.find(given["TRITON_SERVERS"], command.name(given))
    assert (place.host, place.http, place.grpc, place.metrics) == ("127.0.0.1", 8000, 8001, 8002)
    registry = RegistrySettings.of(given)
    assert (registry.host, registry.path, registry.plain) == ("registry.example:5000", "team", True)
    paths = {m["mountPath"] for m in part["volumeMounts"]}
    for name in ("REGISTRY_CA", "RELEASE_PUBLIC_KEY"):
        assert str(Path(given[name]).parent) in paths
    [credentials] = [v for v in pod(documents)["volumes"] if v["name"] == "registry-credentials"]
    assert given["DOCKER_CONFIG"] in paths
    assert credentials["secret"]["items"] == [{"key": ".dockerconfigjson", "path": "config.json"}]


def test_the_node_s_name_is_triton_s_own() -> None:
    """Canaries are known by it (docs/cluster.md)."""
    for values, field in (({}, "metadata.name"), (DAEMONSET, "spec.nodeName")):
        documents = helm.render(values, {"nodeNamePrefix": "p-"})
        for name in ("triton", "agent"):
            part = container(documents, name)
            assert part["env"][0] == {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": field}}}
            assert environment(part)["TRITON_ID"] == "p-node-a"
        assert environment(container(documents, "agent"))["NODE_NAME"] == "p-node-a"


def test_the_gateway_reads_its_settings_and_its_secrets(tmp_path: Path) -> None:
    documents = helm.render(ALL)
    part = container(documents, "gateway")
    given = environment(part)
    found = options.from_environment(given)
    [triton] = found.servers
    assert triton.dns
    service = one(documents, "Service", triton.host)
    assert {p["port"] for p in service["spec"]["ports"]} >= {triton.http, triton.grpc}
    assert not service["spec"].get("publishNotReadyAddresses"), "a pod without a release gets no requests"
    mounts = {m["mountPath"]: m for m in part["volumeMounts"]}
    volumes = {v["name"]: v.get("secret") for v in pod(documents)["volumes"]}
    keys = mounts[str(found.keys.parent)]
    assert volumes[keys["name"]]["secretName"] == "gateway-keys"
    assert "subPath" not in keys, "a file that is mounted by subPath never changes"
    assert volumes[mounts[given["GATEWAY_CERT"]]["name"]]["secretName"] == "gateway-certificate"
    # As kubelet lays a Secret of type kubernetes.io/tls out.
    data = tmp_path / "..data"
    data.mkdir()
    for name, text in (("tls.crt", "BEGIN CERTIFICATE"), ("tls.key", "-----BEGIN PRIVATE KEY-----")):
        (data / name).write_text(text)
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert b"PRIVATE KEY" in certificate.pem(tmp_path, tmp_path / "own.pem", "")


def test_credentials_of_env_stay_out_of_the_cluster(tmp_path: Path) -> None:
    """Of a checkout whose .env has more in it than the shipped one, copied as `helm package` does."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    with (chart / "files" / "env").open("a") as env:
        env.write('\nREGISTRY_AUTH={"auth": "c2VjcmV0"}\nREGISTRY=other.example # ours\nPOLL_SECS=11\n')
    values = {**REQUIRED, "registry": {}}
    done = helm.run("template", values, chart=chart)
    assert done.returncode == 0, done.stderr
    assert "c2VjcmV0" not in done.stdout
    agent = environment(container([d for d in yaml.safe_load_all(done.stdout) if d], "agent"))
    assert (agent["REGISTRY"], agent["POLL_SECS"]) == ("other.example", "11")


def test_a_chart_that_has_lost_its_links_is_refused(tmp_path: Path) -> None:
    """As by a checkout that keeps a link as a file with its text."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart, symlinks=True)
    for link in (chart / "files").iterdir():
        text = str(link.readlink())
        link.unlink()
        link.write_text(text)
    said = helm.refused(REQUIRED, MONITORING, chart=chart)
    assert "files/env: found no settings" in said
    assert "files/rules: found no rules" in said


def test_links_lead_to_the_one_place() -> None:
    assert (CHART / "files" / "env").resolve() == ROOT / ".env"
    assert (CHART / "files" / "rules").resolve() == ROOT / "monitoring" / "prometheus" / "rules"


def test_a_pod_gets_requests_when_it_has_something_to_serve(defaults: dict[str, str]) -> None:
    documents = helm.render(GATEWAY, MONITORING)
    triton = container(documents, "triton")
    assert "HEALTHY_EMPTY" not in environment(triton), "an empty repository is not ready"
    for probe in ("startupProbe", "livenessProbe"):
        assert triton[probe]["httpGet"]["path"] == "/v2/health/live", (
            "and yet it lives: its agent has work to do"
        )
    start = triton["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= int(defaults["START_SECS"])
    ready = triton["readinessProbe"]
    patience = ready["periodSeconds"] * ready["failureThreshold"]
    assert patience > int(defaults["POLL_SECS"]) + int(defaults["LOAD_SECS"]), "a redeploy takes nobody out"
    for name in ("agent", "exporter"):
        assert "readinessProbe" not in container(documents, name), "the pod serves on without it"


def test_a_build_is_not_taken_for_an_agent_that_hangs(defaults: dict[str, str]) -> None:
    probe = container(helm.render(), "agent")["livenessProbe"]
    longest = len(REQUIRED["models"]) * 2 * int(defaults["BUILD_SECS"])
    assert probe["periodSeconds"] * probe["failureThreshold"] >= longest


@pytest.mark.parametrize(
    "values",
    [
        {},
        GATEWAY,
        DAEMONSET,
        helm.merged(GATEWAY, {"settings": {"POLL_SECS": 300, "UNHEALTHY_AFTER": 200}}),
        helm.merged(GATEWAY, {"settings": {"EXIT_TIMEOUT_SECS": 600, "STOP_GRACE_SECS": 700}}),
        helm.merged(GATEWAY, {"shutdown": {"dnsSeconds": 600, "endpointSeconds": 60}}),
    ],
)
def test_a_pod_ends_in_order(values: Values, compose: dict[str, Any], defaults: dict[str, str]) -> None:
    """The agent's way back, under a Triton that answers, then Triton's own end: all of it before SIGKILL."""
    documents = helm.render(SERVICES if "gateway" in values else {}, values)
    known = {**defaults, **{k: str(v) for k, v in values.get("settings", {}).items()}}
    poll, load, drain = (int(known[k]) for k in ("POLL_SECS", "LOAD_SECS", "EXIT_TIMEOUT_SECS"))
    grace = pod(documents)["terminationGracePeriodSeconds"]
    agent: Any = SimpleNamespace(settings=SimpleNamespace(poll_secs=poll, load_secs=load))
    back = NodeAgent.ending(agent)
    if "settings" not in values:
        back = max(back, int(compose["agent"]["stop_grace_period"].rstrip("s")))
    script = hook(container(documents, "triton"))
    quiet = int(re.search(r"sleep (\d+)", script)[1])  # type: ignore[index]
    waits = int(re.search(r"--wait (\d+)", script)[1])  # type: ignore[index]
    assert quiet + waits >= back, "Triton answers until the agent has gone back"
    assert grace >= back
    assert grace >= quiet + waits + drain
    assert quiet >= values.get("shutdown", {}).get("dnsSeconds", 35), "no gateway finds it any more"
    if "gateway" in values:
        endpoints = int(hook(container(documents, "gateway")))
        assert quiet >= endpoints + drain, "Triton outlives its gateway"
        assert grace > endpoints + drain + 10  # gateway/haproxy.py ends what is left within 10 s
        assert int(hook(container(documents, "pictures"))) == quiet
        assert "lifecycle" not in container(documents, "shadow"), "its copies may be lost"


def test_a_server_that_hangs_is_not_waited_for() -> None:
    """A probe that fails runs the preStop hook, too."""
    for part in pod(helm.render(ALL))["containers"]:
        for name in ("livenessProbe", "startupProbe"):
            if name in part and "lifecycle" in part:
                assert part[name]["terminationGracePeriodSeconds"] == 10, part["name"]
    # Its way back may take all of the pod's.
    assert "terminationGracePeriodSeconds" not in container(helm.render(ALL), "agent")["livenessProbe"]


def hook(part: Document) -> str:
    return str(part["lifecycle"]["preStop"]["exec"]["command"][-1])


def test_triton_s_hook_waits_for_the_agent_s_change(tmp_path: Path) -> None:
    """The hook as it is rendered, with the very lock that the agent takes."""
    values = {"shutdown": {"dnsSeconds": 0, "endpointSeconds": 0}}
    documents = helm.render(values)
    file = tmp_path / ".env"
    file.write_text(one(documents, "ConfigMap")["data"][".env"].replace("/models", str(tmp_path)))
    script = hook(container(documents, "triton")).replace("/models", str(tmp_path))
    assert subprocess.run(["sh", "-c", script], check=False).returncode == 0, "no change yet: no lock"
    with operation_lock.held(settings.load({}, file), "agent, resnet50: release 4"):
        folder = tmp_path / "run"
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)  # Triton has the volume to read only
        waits = subprocess.Popen(["sh", "-c", script])
        time.sleep(0.3)
        assert waits.poll() is None, "a change is under way"
    assert waits.wait(10) == 0
    assert list(folder.iterdir()), "the hook looked at the agent's lock"


def test_a_new_volume_gets_its_repository_or_the_reason(tmp_path: Path) -> None:
    [script] = container(helm.render(), "models-volume")["command"][2:]
    script = script.replace("/models", str(tmp_path / "models"))
    for _ in range(2):
        assert subprocess.run(["sh", "-c", script], check=False).returncode == 0
    assert (tmp_path / "models" / "repository").is_dir()
    shutil.rmtree(tmp_path / "models")
    (tmp_path / "models").touch()
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "next: give its folder" in done.stderr
    assert "1000:1000" in done.stderr
