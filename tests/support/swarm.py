"""Several real Docker Engines on one machine, joined into one swarm, with a real registry.

Every engine has a network namespace of its own on a bridge in one more namespace, and a host name, a mount
and a process namespace of its own. So an engine ends as a machine does: its first process is killed, and
with it go its containers, its containerd and every mount. The names carry this process's number: what a
killed run has left behind is found and removed by the next one.

Images are not pulled three times: an engine's data folder begins with hard links to the layers of the
machine's own engine, which nobody writes to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from support.compose import docker, must, wait_for

PREFIX = "ttsw"
_PROGRAMS = ("ip", "nsenter", "unshare", "dockerd", "docker-init", "docker-registry", "iptables")
_REGISTRY_PORT = 5000
_START_SECS = 40


def problem() -> str:
    """Why no swarm can be made here; empty when one can."""
    if os.geteuid() != 0:
        return "network namespaces and engines of one's own need root"
    missing = [name for name in _PROGRAMS if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not found (Debian: iproute2, docker.io, docker-registry)"
    tried = f"{PREFIX}{os.getpid()}-try"
    made = _run("ip", "netns", "add", tried, check=False)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    vxlan = _ip(tried, "link", "add", "try", "type", "vxlan", "id", "1", "dstport", "4789", check=False)
    _run("ip", "netns", "del", tried)
    return f"the kernel has no VXLAN: {vxlan.stderr.strip()}" if vxlan.returncode else ""


def _run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=check, timeout=60)


def _ip(namespace: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return _run("ip", "-n", namespace, *args, check=check)


class Engine:
    """A Docker Engine, and the machine around it.

    Attributes:
        name: its host name; ``address``: where the others, and this machine, reach it.
    """

    def __init__(self, cluster: Cluster, name: str, number: int, labels: Sequence[str]) -> None:
        self.name = name
        self.address = f"{cluster.network}.{10 + number}"
        self.folder = cluster.folder / name
        self.namespace = f"{PREFIX}{os.getpid()}-{name}"
        self._hub = cluster.hub
        self._port = f"{PREFIX}{number}"
        self._labels = labels
        self._registry = cluster.registry
        self._gateway = f"{cluster.network}.1"
        self._process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir()
        _run("ip", "netns", "add", self.namespace)
        _run("ip", "link", "add", self._port, "netns", self._hub, "type", "veth",
             "peer", "name", "eth0", "netns", self.namespace)  # fmt: skip
        _ip(self._hub, "link", "set", self._port, "master", "hub", "up")
        _ip(self.namespace, "link", "set", "lo", "up")
        _ip(self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip(self.namespace, "link", "set", "eth0", "up")
        _ip(self.namespace, "route", "add", "default", "via", self._gateway)

    @property
    def host(self) -> str:
        """What DOCKER_HOST says."""
        return f"unix://{self.folder}/docker.sock"

    def docker(self, *args: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run ``docker ARGS`` on this engine; never raises for an exit code."""
        return docker(*args, env={**os.environ, "DOCKER_HOST": self.host}, timeout=timeout)

    def start(self) -> None:
        """Start it, or start it again as a machine that comes back; returns before it answers."""
        # What a machine has in /run is gone when it comes back.
        shutil.rmtree(self.folder / "exec", ignore_errors=True)
        self.folder.joinpath("docker.pid").unlink(missing_ok=True)
        options = [
            f"--host={self.host}", f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/docker.pid", f"--insecure-registry={self._registry}",
            f"--cgroup-parent=/{PREFIX}{os.getpid()}", "--storage-driver=overlay2",
            *(f"--label={label}" for label in self._labels),
        ]  # fmt: skip
        # nsenter: `ip netns exec` hides /sys/fs/cgroup. setpriv: it ends with a killed test run.
        argv = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{self.namespace}",
                "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
                "sh", "-c", 'hostname "$0" && exec docker-init -- dockerd "$@"', self.name,
                *options]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log
            return self.docker("version", "--format", "{{.Server.Version}}").returncode == 0

        wait_for(answers, _START_SECS, f"the engine {self.name}")

    def kill(self) -> None:
        """End it and all that it runs, as a power cut would."""
        if self._process is None:
            return
        [*inside] = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._process.kill()
        self._process.wait()
        for pid in inside:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
            wait_for(lambda pid=pid: not Path("/proc", pid).exists(), 30, f"{self.name} to end")  # type: ignore[misc]
        self._process = None

    def link(self, *, up: bool) -> None:
        """Cut its cable, or put it back."""
        _ip(self._hub, "link", "set", self._port, "up" if up else "down")

    def volume(self, name: str) -> Path:
        """Where the files of a volume lie, seen from this machine."""
        return self.folder / "data" / "volumes" / name / "_data"

    @property
    def log(self) -> str:
        """The end of what it wrote."""
        return (self.folder / "log").read_text()[-3000:]

    def remove(self) -> None:
        """What is left of its network."""
        _run("ip", "netns", "del", self.namespace, check=False)


class Registry:
    """Debian's docker-registry; it keeps what it has over ``stop`` and ``start``."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self._config = folder / "config.yml"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        storage = {
            "filesystem": {"rootdirectory": str(folder / "storage")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        }
        config = {"version": 0.1, "log": {"level": "warn"}, "storage": storage, "http": {"addr": address}}
        self._config.write_text(json.dumps(config))

    def start(self) -> None:
        """Start it and wait until it answers."""
        argv = ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", str(self._config)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        url = f"http://{self.address}/v2/"
        probe = ["curl", "--silent", "--fail", "--max-time", "2", "--noproxy", "*", url]
        wait_for(lambda: _run(*probe, check=False).returncode == 0, 20, "the registry")

    def stop(self) -> None:
        """End it at once: whoever asks it now is refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Cluster:
    """A registry and engines; nothing runs before ``engine`` and ``registry_server.start``."""

    def __init__(self) -> None:
        _remove_leftovers()
        root = Path(must(docker("info", "--format", "{{.DockerRootDir}}")).strip())
        self._source = root
        # Beside the machine's own data folder: hard links do not cross file systems.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root.parent))
        self.folder.chmod(0o711)
        self.network = f"10.213.{os.getpid() % 250 + 1}"
        self.registry = f"{self.network}.1:{_REGISTRY_PORT}"
        self.hub = f"{PREFIX}{os.getpid()}-hub"
        self.engines: dict[str, Engine] = {}
        self._link = f"{PREFIX}{os.getpid()}"
        self.registry_server = Registry(self.folder / "registry", self.registry)
        # In a namespace of its own, the bridge obeys no rule of this machine's firewall.
        _run("ip", "netns", "add", self.hub)
        _ip(self.hub, "link", "add", "hub", "type", "bridge")
        _ip(self.hub, "link", "set", "hub", "up")
        _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "host", "netns", self.hub)
        _ip(self.hub, "link", "set", "host", "master", "hub", "up")
        _run("ip", "address", "add", f"{self.network}.1/24", "dev", self._link)
        _run("ip", "link", "set", self._link, "up")

    def engine(self, name: str, images: Mapping[str, str], labels: Sequence[str] = ()) -> Engine:
        """A new machine with an engine that has these images (a name for each of this machine's), started."""
        engine = Engine(self, name, len(self.engines) + 1, labels)
        self.engines[name] = engine
        seed(self._source, engine.folder / "data", images)
        engine.start()
        return engine

    def swarm(self, manager: str) -> None:
        """Make a swarm of one engine."""
        engine = self.engines[manager]
        must(engine.docker("swarm", "init", "--advertise-addr", engine.address))

    def join(self, manager: str, name: str, role: str = "worker") -> None:
        """Let one more engine in."""
        first, engine = self.engines[manager], self.engines[name]
        token = must(first.docker("swarm", "join-token", "--quiet", role)).strip()
        argv = ["--token", token, "--advertise-addr", engine.address, f"{first.address}:2377"]
        must(engine.docker("swarm", "join", *argv))

    def remove(self) -> None:
        """Everything."""
        for engine in self.engines.values():
            with contextlib.suppress(OSError):
                engine.kill()
        self.registry_server.stop()
        for engine in self.engines.values():
            engine.remove()
        _clear(os.getpid())


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster, removed whatever happens."""
    made = Cluster()
    try:
        yield made
    finally:
        made.remove()


def seed(source: Path, target: Path, images: Mapping[str, str]) -> None:
    """Give an engine that has not run yet images of another one, by hard links.

    Args:
        source, target: data folders of two engines, beside each other.
        images: new name with its tag, by the name in ``source``.
    """
    names: dict[str, dict[str, str]] = {}
    wanted: dict[Path, None] = {}
    for image, name in images.items():
        digest = must(docker("image", "inspect", "--format", "{{.Id}}", image)).strip()
        names.setdefault(name.rpartition(":")[0], {})[name] = digest
        store = Path("image", "overlay2")
        content = store / "imagedb" / "content" / "sha256" / digest.partition(":")[2]
        wanted[content] = None
        chain = ""
        for layer in json.loads((source / content).read_text())["rootfs"]["diff_ids"]:
            text = f"sha256:{chain} {layer}".encode()
            chain = hashlib.sha256(text).hexdigest() if chain else layer.partition(":")[2]
            entry = store / "layerdb" / "sha256" / chain
            folder = Path("overlay2", (source / entry / "cache-id").read_text())
            link = Path("overlay2", "l", (source / folder / "link").read_text())
            wanted.update(dict.fromkeys([entry, folder, link]))
    # Docker mounts its data folder on itself, and links do not cross mounts: here both folders are seen
    # through one mount, which ends with the command.
    target.mkdir()
    script = 'mount --bind "$1" "$2" && cd "$2/$3" && cp --archive --link --parents -t "$2/$4" -- $(cat)'
    seen = target.parent / "seen"
    seen.mkdir()
    beside = source.parent
    argv = [
        "unshare",
        "--mount",
        "sh",
        "-euc",
        script,
        "sh",
        beside,
        seen,
        source.name,
        target.relative_to(beside),
    ]
    subprocess.run([*map(str, argv)], input="\n".join(map(str, wanted)), text=True, check=True, timeout=120)
    (target / "image" / "overlay2" / "repositories.json").write_text(json.dumps({"Repositories": names}))


def _remove_leftovers() -> None:
    """Of runs that were killed."""
    listed = _run("ip", "netns", "list", check=False).stdout
    for pid in {int(n) for n in re.findall(rf"^{PREFIX}(\d+)-", listed, re.MULTILINE)}:
        if not Path(f"/proc/{pid}").exists():
            _clear(pid)


def _clear(pid: int) -> None:
    """Namespaces, links, folders and control groups of one run."""
    listed = _run("ip", "netns", "list", check=False).stdout
    for name in re.findall(rf"^({PREFIX}{pid}-\S+)", listed, re.MULTILINE):
        _run("ip", "netns", "del", name, check=False)
    _run("ip", "link", "del", f"{PREFIX}{pid}", check=False)
    root = Path(must(docker("info", "--format", "{{.DockerRootDir}}")).strip())
    for folder in root.parent.glob(f"{PREFIX}{pid}-*"):
        shutil.rmtree(folder, ignore_errors=True)
    groups = Path("/sys/fs/cgroup")
    for group in [groups / f"{PREFIX}{pid}", *groups.glob(f"*/{PREFIX}{pid}")]:
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a step takes."""
    began = time.monotonic()
    yield
    print(f"swarm: {what}: {time.monotonic() - began:.1f} s", flush=True)
