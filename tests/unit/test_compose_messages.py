"""Places in a container never reach a message: what a builder inside says is told as it is called outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops.runtimes.compose import Compose


@pytest.fixture
def compose() -> Compose:
    made = object.__new__(Compose)  # no engine is needed for words
    made._project = "stack"
    return made


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
def test_places_are_called_as_they_are_outside(compose: Compose, said: str, told: str) -> None:
    assert compose._outside(said) == told


def test_a_spec_is_mounted_under_its_own_path_where_that_is_free(compose: Compose, tmp_path: Path) -> None:
    spec = tmp_path / "specs" / "mine.yaml"
    spec.parent.mkdir()
    spec.write_text("")
    for path in (spec.parent, spec):
        path.chmod(0o755)
    mounts: list[str] = []
    inside = compose._mounted(str(spec), mounts)
    place = "" if spec.parts[1] in ("home", "tmp") else "/host"
    assert inside == f"{place}{spec}"
    assert mounts == [f"{spec.parent}:{place}{spec.parent}:ro"]
