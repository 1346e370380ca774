"""A container that a dead driver has left. Drivers are killed in test_redeploy.py."""

from __future__ import annotations

from ops.runtimes import driver
from support.compose import Project, docker, must


def test_a_deaf_container_of_a_dead_driver_is_ended_by_the_next_command(project: Project) -> None:
    must(project.compose("build", "--quiet", "client"))
    here, pid, _ = driver.me().rsplit(" ", 2)
    for name, started in (("dead", "1"), ("alive", driver.me().rsplit(" ", 1)[1])):
        label = f"{driver.LABEL}={here} {pid} {started}"
        run = ["run", "--detach", "--no-deps", "--name", f"{project.name}-{name}", "--label", label]
        must(project.compose(*run, "--entrypoint", "sleep", "client", "60"))
    done = project.script("status", "--runtime", "docker")
    assert f"ending {project.name}-dead, left by a command that was killed" in done.stderr
    assert project.one_offs() == [f"{project.name}-alive"]
    must(docker("rm", "--force", f"{project.name}-alive"))
