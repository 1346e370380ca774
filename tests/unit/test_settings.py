"""The knobs: .env, overridden by the environment, each checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ops.errors import OpsError
from ops.settings import ROOT, Settings, load

Load = Callable[..., Settings]


@pytest.fixture
def knobs(tmp_path: Path) -> Load:
    """Load the committed .env with ``text`` after it and nothing but ``environ`` in the environment."""

    def knobs(text: str = "", **environ: str) -> Settings:
        file = tmp_path / ".env"
        file.write_text((ROOT / ".env").read_text("utf-8") + text, "utf-8")
        return load(environ, file)

    return knobs


def test_the_committed_defaults(knobs: Load) -> None:
    s = knobs()
    assert s.ports == {"HTTP_PORT": 8000, "GRPC_PORT": 8001, "METRICS_PORT": 8002}
    assert (s.poll_secs, s.models_dir, s.models) == (30, ROOT / "models", "tensorrt_fp16_model")
    assert s.bind_address == "127.0.0.1"


def test_the_environment_overrides_the_file(knobs: Load) -> None:
    assert knobs("HTTP_PORT=9000\n", HTTP_PORT="9500").http_port == 9500


def test_an_empty_variable_overrides_nothing(knobs: Load) -> None:
    assert knobs(HTTP_PORT="").http_port == 8000


def test_the_last_line_of_the_file_wins(knobs: Load) -> None:
    assert knobs("POLL_SECS=5\nPOLL_SECS=7\n").poll_secs == 7


@pytest.mark.parametrize(
    "line", ["HTTP_PORT=9000 # why", 'HTTP_PORT="9000"', "HTTP_PORT='9000'", "  HTTP_PORT = 9000  "]
)
def test_comments_quotes_and_blanks_are_no_part_of_a_value(knobs: Load, line: str) -> None:
    assert knobs(f"\n# a comment\n{line}\n").http_port == 9000


@pytest.mark.parametrize("value", ["0", "65536", "-1", "80.5", "http", "8000x", "²", "9" * 5000])
def test_a_port_that_cannot_be_is_refused_by_name_with_what_is_allowed(knobs: Load, value: str) -> None:
    with pytest.raises(OpsError) as error:
        knobs(GRPC_PORT=value)
    assert f'GRPC_PORT is "{value}"' in str(error.value)
    assert "from 1 to 65535" in str(error.value)


def test_two_equal_ports_are_refused(knobs: Load) -> None:
    with pytest.raises(OpsError, match="they must differ"):
        knobs(GRPC_PORT="8000")


def test_without_docker_the_poll_is_short_unless_the_environment_says_otherwise(knobs: Load) -> None:
    assert (knobs().poll_secs, knobs().native_poll_secs) == (30, 2)
    assert knobs(POLL_SECS="9").native_poll_secs == 9
    assert knobs(NATIVE_POLL_SECS="5").native_poll_secs == 5


def test_polling_every_0_seconds_is_refused(knobs: Load) -> None:
    with pytest.raises(OpsError, match="POLL_SECS"):
        knobs(POLL_SECS="0")


def test_a_number_of_the_server_is_checked_and_handed_on(knobs: Load) -> None:
    assert "COPY_THREADS" not in knobs().environment(), "Triton's own default"
    found = knobs(COPY_THREADS="4", PINNED_POOL_MB="1024")
    assert found.server == {"COPY_THREADS": "4", "PINNED_POOL_MB": "1024"}
    assert found.environment()["COPY_THREADS"] == "4"
    with pytest.raises(OpsError, match='HTTP_THREADS is "many"; allowed is a whole number from 1 to 4096'):
        knobs(HTTP_THREADS="many")


def test_a_line_that_is_no_assignment_is_refused_with_its_number(knobs: Load) -> None:
    count = len((ROOT / ".env").read_text("utf-8").splitlines())
    with pytest.raises(OpsError, match=f':{count + 1}: found "oops", expected KEY=VALUE'):
        knobs("oops\n")


@pytest.mark.parametrize("name", ["HTTP_PORT", "BIND_ADDRESS", "MODELS_DIR", "MODELS", "NGC_TAG"])
def test_a_knob_that_is_nowhere_is_refused_by_name(tmp_path: Path, name: str) -> None:
    lines = (ROOT / ".env").read_text("utf-8").splitlines()
    file = tmp_path / ".env"
    file.write_text("\n".join(x for x in lines if not x.startswith(f"{name}=")), "utf-8")
    with pytest.raises(OpsError, match=name):
        load({}, file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="cannot be read"):
        load({}, tmp_path / ".env")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(OpsError, match="cannot be read"):
        load({}, tmp_path / ".env")


@pytest.mark.parametrize(("address", "host"), [("0.0.0.0", "127.0.0.1"), ("10.0.0.5", "10.0.0.5")])  # noqa: S104  (not bound)
def test_a_client_here_asks_an_address_that_answers(knobs: Load, address: str, host: str) -> None:
    assert knobs(BIND_ADDRESS=address).host == host


def test_children_get_every_knob_that_was_settled(knobs: Load, tmp_path: Path) -> None:
    env = knobs(HTTP_PORT="9000", MODELS_DIR=str(tmp_path)).environment()
    assert (env["HTTP_PORT"], env["POLL_SECS"]) == ("9000", "30")
    assert env["MODEL_REPOSITORY"] == str(tmp_path / "repository")


@pytest.mark.parametrize("gpu", ["0", "15", "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77", "MIG-GPU-5d5b/1/0"])
def test_a_gpu_is_named_by_its_number_or_its_uuid(gpu: str) -> None:
    assert load({"GPU_ID": gpu}).gpu_id == gpu


@pytest.mark.parametrize("gpu", ["0,1", "all", "-1", "GPU 0", "GPU-"])
def test_any_other_gpu_is_refused(gpu: str) -> None:
    with pytest.raises(OpsError, match="GPU_ID is") as error:
        load({"GPU_ID": gpu})
    assert "nvidia-smi -L" in error.value.remedy
