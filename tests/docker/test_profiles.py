"""Build only, serve only, smoke only: each alone, in any order, on a fresh and on a used volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.compose import Project, docker, must, wait_for


def health_says(project: Project) -> str:
    log = project.state("triton")["Health"]["Log"]
    return str(log[-1]["Output"]) if log else ""


def build_only(project: Project) -> str:
    must(project.compose("--profile", "build", "up"))
    assert project.state("builder")["ExitCode"] == 0
    return project.logs("builder")


def smoke_only(project: Project) -> tuple[int, str]:
    done = project.compose("--profile", "smoke", "run", "--rm", "-T", "client")
    return done.returncode, done.stdout + done.stderr


def test_serve_then_build_then_smoke_on_a_fresh_volume(projects: Callable[..., Project], specs: Path) -> None:
    project = projects(specs=specs, START_SECS="1", UNHEALTHY_AFTER="2")
    must(project.compose("--profile", "serve", "up", "--detach"))
    assert not project.state("builder"), "serving alone starts no builder"
    wait_for(lambda: project.health() == "unhealthy", 30, "an empty server to be unhealthy")
    assert "nothing is published" in health_says(project)
    assert "run the builder" in health_says(project)
    assert "building release 1" in build_only(project)
    wait_for(lambda: project.health() == "healthy", 30, "the server to find the release")
    code, said = smoke_only(project)
    assert code == 0, said


def test_smoke_then_build_then_serve_on_a_fresh_volume(project: Project) -> None:
    code, said = smoke_only(project)
    assert code == 1
    assert "no model is live" in said
    assert not project.state("triton"), "smoke-testing alone starts no server"
    assert "building release 1" in build_only(project)
    code, said = smoke_only(project)
    assert code == 1, "there is no server yet"
    must(project.compose("--profile", "serve", "up", "--detach", "--wait"))
    code, said = smoke_only(project)
    assert code == 0, said
    # And everything once more, on the used volume.
    assert "nothing is built" in build_only(project)
    must(project.compose("--profile", "serve", "up", "--detach", "--wait"))
    code, said = smoke_only(project)
    assert code == 0, said
    assert project.snapshot()["scale"]["releases"] == [1]


def test_a_plain_run_of_the_client_brings_up_what_it_needs(project: Project) -> None:
    done = project.compose("run", "--rm", "-T", "client")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.health() == "healthy"


def test_a_failed_build_is_told_and_the_release_before_it_is_served(project: Project) -> None:
    build_only(project)
    done = project.compose("up", "--detach", MODELS="specs/missing.yaml")
    assert done.returncode == 0, done.stderr
    assert project.exit_code("builder") == 1
    assert "specs/missing.yaml" in project.logs("builder")
    wait_for(lambda: project.ready("scale", 1), 30, "the release before to answer")


def test_two_projects_live_side_by_side(projects: Callable[..., Project], specs: Path) -> None:
    one, two = projects(specs=specs), projects(specs=specs)
    for project in (one, two):
        must(project.compose("up", "--detach"))
    for project in (one, two):
        assert project.exit_code("client") == 0, project.logs("client")
    must(one.compose("down", "--volumes"))
    assert two.ready("scale", 1)
    assert docker("volume", "inspect", f"{one.name}_models").returncode == 1
    assert two.snapshot()["scale"]["live"] == 1
