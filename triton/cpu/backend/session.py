"""onnxruntime set up for this machine; the server and the local baseline of `bench` both use it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Union

import onnxruntime as ort


def cores() -> int:
    """The cores this process may use: its affinity, or the container's quota where that is less."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2: no quota to respect
    return count


def threads(config: Dict[str, Any]) -> int:
    """Threads of one instance, by the model's configuration: its own word, or a fair share of the cores."""
    # The parameter is called as in NVIDIA's onnxruntime backend.
    given = config.get("parameters", {}).get("intra_op_thread_count", {}).get("string_value")
    instances = sum(int(group["count"]) for group in config["instance_group"])
    return int(given) if given else max(1, cores() // instances)


def load(model: Union[str, bytes], config: Dict[str, Any]) -> Any:
    """The InferenceSession for a model, its path or its bytes; raises what onnxruntime raises."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads(config)
    # A thread that waits for its siblings leaves its core to whoever has work: another instance, or a
    # client that decodes pictures on the same machine. One request alone is no slower for it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
