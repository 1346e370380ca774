"""Places in a container never reach a message: what a builder inside says is told as it is called outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops.runtimes.docker.mounted_files import mounted, outside


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/host/opt/mine.yaml: precision", "/opt/mine.yaml: precision"),
        ("/models/releases/net/2/model: damaged", "stack_models:/releases/net/2/model: damaged"),
        ('{"found": "/models/staging"}', '{"found": "stack_models:/staging"}'),
        ("builder/models/resnet50.yaml", "builder/models/resnet50.yaml"),
        ("/srv/models/mine.yaml, /srv/host/a", "/srv/models/mine.yaml, /srv/host/a"),
    ],
)
def test_places_are_called_as_they_are_outside(said: str, told: str) -> None:
    assert outside(said, "stack_models") == told


def test_a_spec_is_mounted_under_its_own_path_where_that_is_free(tmp_path: Path) -> None:
    spec = tmp_path / "specs" / "mine.yaml"
    spec.parent.mkdir()
    spec.write_text("")
    for path in (spec.parent, spec):
        path.chmod(0o755)
    mounts: list[str] = []
    inside = mounted(str(spec), mounts)
    place = "" if spec.parts[1] in ("home", "tmp") else "/host"
    assert inside == f"{place}{spec}"
    assert mounts == [f"{spec.parent}:{place}{spec.parent}:ro"]
