"""The stack file for Docker Swarm, from a project as Compose resolves it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.swarm.options import HOST, Options, StackError
from cluster.swarm.stack import images, stack
from cluster.swarm.text import text

GPU = {"resources": {"reservations": {"devices": [{"driver": "nvidia", "capabilities": ["gpu"]}]}}}


@pytest.fixture
def project(tmp_path: Path) -> dict[str, Any]:
    """A GPU stack: a server that this machine alone reaches, and a gateway with its secrets."""
    (tmp_path / "keys").write_text("tester:digest\n")
    (tmp_path / "certificate").write_text("PEM\n")
    secrets = {name: {"file": str(tmp_path / name)} for name in ("keys", "certificate")}
    triton = {
        "image": "tensorflow-triton/server:22.11",
        "build": {"context": "."},
        "deploy": GPU,
        "environment": {"TRITON_ID": ""},
        "mem_limit": "1024",
        "shm_size": "2048",
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "ports": [{"host_ip": "127.0.0.1", "target": 8000, "published": "8000"}],
        "tmpfs": ["/tmp:uid=1000,size=64m", "/run/triton:exec,uid=1000,size=1m"],  # noqa: S108
        "volumes": [{"type": "volume", "source": "models", "target": "/models", "read_only": True}],
    }
    gateway = {
        "image": "tensorflow-triton/gateway",
        "environment": {"GATEWAY_CERT": "/run/secrets/certificate"},
        "ports": [{"target": 8443, "published": "8443", "protocol": "tcp"}],
        "secrets": [{"source": name, "target": f"/run/secrets/{name}"} for name in secrets],
        "volumes": [{"type": "volume", "source": "models", "target": "/models"}],
    }
    return {
        "name": "tt",
        "services": {"triton": triton, "gateway": gateway},
        "volumes": {"models": {"name": "tt_models"}},
        "secrets": secrets,
    }


def test_a_server_runs_on_every_node_with_a_gpu_and_is_stopped_before_the_next(
    project: dict[str, Any],
) -> None:
    content, _ = stack(project, Options("reg:5000/team"))
    triton = content["services"]["triton"]
    deploy = triton["deploy"]
    assert (deploy["mode"], deploy["endpoint_mode"]) == ("global", "dnsrr")
    assert deploy["placement"] == {"constraints": ["engine.labels.tensorflow-triton.device == gpu"]}
    assert deploy["resources"]["reservations"]["generic_resources"] == [
        {"discrete_resource_spec": {"kind": "gpu", "value": 1}}
    ]
    assert deploy["resources"]["limits"] == {"memory": "1024"}
    assert (deploy["update_config"]["order"], deploy["update_config"]["failure_action"]) == (
        "stop-first",
        "rollback",
    )
    assert triton["image"] == "reg:5000/team/tensorflow-triton/server:22.11"
    assert triton["environment"]["TRITON_ID"] == "{{.Node.Hostname}}"
    assert "build" not in triton


def test_a_cpu_node_reserves_nothing(project: dict[str, Any]) -> None:
    del project["services"]["triton"]["deploy"]
    deploy = stack(project, Options("reg"))[0]["services"]["triton"]["deploy"]
    assert "reservations" not in deploy["resources"]
    assert deploy["placement"]["constraints"] == ["engine.labels.tensorflow-triton.device == cpu"]


def test_a_port_for_this_machine_alone_stays_closed_and_what_is_lost_is_said(project: dict[str, Any]) -> None:
    content, notes = stack(project, Options("reg"))
    assert "ports" not in content["services"]["triton"]
    assert [note.split(":")[0] for note in notes] == ["port 8000", "security_opt"]
    assert all("(triton)" in note for note in notes)


def test_gateways_start_before_the_old_ones_stop_unless_each_holds_its_nodes_port(
    project: dict[str, Any],
) -> None:
    ingress = stack(project, Options("reg"))[0]["services"]["gateway"]
    assert ingress["deploy"]["update_config"]["order"] == "start-first"
    assert ingress["ports"][0]["mode"] == "ingress"
    host = stack(project, Options("reg", ports=HOST))[0]["services"]["gateway"]
    assert (host["deploy"]["mode"], host["deploy"]["update_config"]["order"]) == ("global", "stop-first")
    assert host["ports"] == [{"target": 8443, "published": 8443, "protocol": "tcp", "mode": "host"}]
    assert host["environment"]["TRITON_SERVERS"] == "dns:tasks.triton:8000:8001"


def test_memory_keeps_its_sizes_and_what_must_execute_may(project: dict[str, Any]) -> None:
    content, _ = stack(project, Options("reg"))
    mounts = {mount["target"]: mount for mount in content["services"]["triton"]["volumes"]}
    assert mounts["/tmp"]["tmpfs"] == {"size": 64 << 20}  # noqa: S108
    assert mounts["/dev/shm"]["tmpfs"] == {"size": 2048}  # noqa: S108
    assert mounts["/models"]["read_only"] is True
    options = content["volumes"][mounts["/run/triton"]["source"]]["driver_opts"]["o"].split(",")
    assert {"exec", "uid=1000", "size=1m"} <= set(options)
    assert "noexec" not in options


def test_another_key_is_another_secret(project: dict[str, Any]) -> None:
    before = stack(project, Options("reg"))[0]["secrets"]
    Path(project["secrets"]["keys"]["file"]).write_text("other:digest\n")
    after = stack(project, Options("reg"))[0]["secrets"]
    assert before["keys"]["name"] != after["keys"]["name"]
    assert before["certificate"] == after["certificate"]


@pytest.mark.parametrize("name", ["keys", "certificate"])
def test_a_gateway_without_its_secrets_is_refused(project: dict[str, Any], name: str) -> None:
    Path(project["secrets"][name]["file"]).write_text("")
    with pytest.raises(StackError, match=name):
        stack(project, Options("reg"))


def test_a_folder_of_the_checkout_becomes_a_config_for_each_file(
    project: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "rules"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.yml").write_text("a: 1\n")
    bind = {"type": "bind", "source": str(folder), "target": "/etc/rules"}
    project["services"]["gateway"]["volumes"].append(bind)
    content, _ = stack(project, Options("reg"))
    [config] = content["services"]["gateway"]["configs"]
    assert config["target"] == "/etc/rules/inner/a.yml"
    assert content["configs"][config["source"]]["file"] == str(folder / "inner" / "a.yml")


def test_a_stack_without_servers_is_refused(project: dict[str, Any]) -> None:
    del project["services"]["triton"]
    with pytest.raises(StackError, match="no service triton among gateway"):
        stack(project, Options("reg"))


def test_the_text_is_yaml_of_the_same_content(project: dict[str, Any]) -> None:
    project["services"]["gateway"]["command"] = ["yes", "1", "a: b", '"$$x" #', "é"]
    content, notes = stack(project, Options("reg"))
    assert yaml.safe_load(text(copy.deepcopy(content), notes)) == content


def test_only_our_images_are_renamed(project: dict[str, Any]) -> None:
    project["services"]["prometheus"] = {"image": "prom/prometheus:v2.53.4"}
    assert images(project, Options("reg", tag="7")) == {
        "tensorflow-triton/gateway": "reg/tensorflow-triton/gateway:7",
        "tensorflow-triton/server:22.11": "reg/tensorflow-triton/server:7",
    }
    assert stack(project, Options("reg"))[0]["services"]["prometheus"]["image"] == "prom/prometheus:v2.53.4"
