"""What the containers are allowed, asked from inside and of the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.compose import Project, docker, must

FACTS = """
import json, os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
status = {key: value.strip() for key, value in status.items()}
def writable(folder):
    path = f"{folder}/probe-{os.getpid()}"
    try:
        open(path, "w").close()
        os.unlink(path)
        return True
    except OSError as e:
        return e.strerror
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "capabilities": sorted({status[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}),
    "no_new_privileges": status["NoNewPrivs"],
    "init": open("/proc/1/comm").read().strip(),
    "writable": {d: writable(d) for d in ("/", "/app", "/opt", "/etc", "/var/tmp", "/tmp", "/models")},
    "owner": [os.stat("/models").st_uid, os.stat("/models").st_gid],
}))
"""


@pytest.fixture(scope="module")
def project(images: dict[str, str], specs: Path) -> Iterator[Project]:
    """A stack that has built, serves and has been smoke-tested."""
    project = Project(specs=specs)
    must(project.compose("up", "--detach"))
    assert project.exit_code("client") == 0, project.logs("client")
    yield project
    project.remove()


@pytest.mark.parametrize("service", ["builder", "triton", "client"])
def test_from_inside(project: Project, service: str) -> None:
    if service == "triton":
        done = docker("exec", project.container("triton"), "python3", "-c", FACTS)
    else:
        done = project.inside(service, FACTS)
    facts = json.loads(must(done))
    assert (facts["uid"], facts["gid"], facts["groups"]) == (1000, 1000, [1000])
    assert facts["capabilities"] == ["0000000000000000"]
    assert facts["no_new_privileges"] == "1"
    assert facts["init"] in {"docker-init", "tini"}
    assert facts["owner"] == [1000, 1000], "a fresh volume belongs to whom the containers run as"
    may_write = facts["writable"].pop("/models")
    assert facts["writable"].pop("/tmp") is True  # noqa: S108  (the container's own tmpfs)
    assert may_write is True if service == "builder" else may_write == "Read-only file system"
    refused = {"Read-only file system", "No such file or directory"}
    assert set(facts["writable"].values()) <= refused, facts["writable"]


def test_limits_as_the_engine_sees_them(project: Project) -> None:
    for service in ("builder", "triton", "client"):
        [data] = json.loads(must(docker("inspect", project.container(service))))
        host = data["HostConfig"]
        assert data["Config"]["User"] == "1000:1000"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Memory"] > 0
        assert host["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}
        assert host["Init"] is True
        for bindings in (host["PortBindings"] or {}).values():
            assert [b["HostIp"] for b in bindings] == ["127.0.0.1"]
        if service == "triton":
            assert host["RestartPolicy"]["Name"] == "unless-stopped"
            assert data["Config"]["StopTimeout"] > 30
    # Every process of the server, not only the one that answers.
    rows = must(docker("top", project.container("triton"), "-eo", "pid,uid,comm")).splitlines()[1:]
    assert {row.split()[1] for row in rows} == {"1000"}
    assert any("tritonserver" in row for row in rows)


def test_ports_are_published_where_told(project: Project) -> None:
    data = json.loads(must(project.compose("config", "--format", "json", BIND_ADDRESS="127.0.0.2")))
    assert {p["host_ip"] for p in data["services"]["triton"]["ports"]} == {"127.0.0.2"}


def test_triton_stops_within_its_own_time(project: Project) -> None:
    must(project.compose("stop", "triton"))
    assert project.state("triton")["ExitCode"] == 0, "it had to be killed"
