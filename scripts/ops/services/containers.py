"""What each profile adds to Compose: its services, a file on top of compose.yaml, where people find it."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ops import registry_access
from ops.services.base import keys_file
from ops.settings import Settings

GATEWAY_FILE = "compose.gateway.yaml"
# The services of each profile in compose.yaml, in the order in which they start.
SERVICES: Mapping[str, Sequence[str]] = {
    "gateway": ("pictures", "shadow", "gateway"),
    "monitoring": ("exporter", "prometheus", "grafana"),
    "agent": ("agent",),
}
# A file that Compose reads too while the profile is on.
FILES: Mapping[str, str] = {"gateway": GATEWAY_FILE}
# Where people find a service: its port inside, a label, and what is written of its address.
_SHOWN: Mapping[str, Tuple[str, str, str]] = {
    "gateway": ("8443/tcp", "gateway", "https://{} (HTTP and gRPC; ./scripts/keys add NAME)"),
    "prometheus": ("9090/tcp", "dashboard", "http://{}/consoles/triton-stack.html"),
    "grafana": ("3000/tcp", "Grafana", "http://{}"),
}


def of(profiles: Sequence[str]) -> List[str]:
    """The services of these profiles."""
    return [service for profile in SERVICES if profile in profiles for service in SERVICES[profile]]


def there(names: Sequence[str]) -> Tuple[str, ...]:
    """The profiles that services of these names belong to."""
    return tuple(profile for profile, services in SERVICES.items() if {*services} & {*names})


def prepare(profiles: Sequence[str], settings: Settings) -> None:
    """Make the files of this machine that are mounted."""
    if "gateway" in profiles:
        keys_file(settings)
    if "agent" in profiles:
        registry_access.needed()
        registry_access.from_a_container()


def ports(profiles: Sequence[str], settings: Settings) -> Dict[str, int]:
    """What is published for these profiles, by the variable that sets each."""
    s = settings
    found = {
        "gateway": {"GATEWAY_PORT": s.gateway_port, "GATEWAY_METRICS_PORT": s.gateway_metrics_port},
        "monitoring": {
            "EXPORTER_PORT": s.exporter_port,
            "PROMETHEUS_PORT": s.prometheus_port,
            "GRAFANA_PORT": s.grafana_port,
        },
    }
    return {name: port for profile in profiles for name, port in found.get(profile, {}).items()}


def row(name: str, container: Any) -> Dict[str, Any]:
    """A service's container, for `status`."""
    state = container.attrs["State"]
    health = (state.get("Health") or {}).get("Status")
    shows = {}
    if name in _SHOWN:
        port, label, form = _SHOWN[name]
        bound = (container.attrs["NetworkSettings"]["Ports"] or {}).get(port)
        if bound:
            host = "127.0.0.1" if bound[0]["HostIp"] in ("0.0.0.0", "") else bound[0]["HostIp"]  # noqa: S104
            shows = {label: form.format(f"{host}:{bound[0]['HostPort']}")}
    return {
        "name": name,
        "profile": there([name])[0],
        "state": state["Status"] if health in (None, "healthy") else health,
        "container": container.name,
        "shows": shows,
        "log": f"docker compose logs {name}",
    }
