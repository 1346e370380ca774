"""A fake of the name server: names that end in .test have the addresses that the file FAKE_DNS lists.

A line each: the name, and its addresses. A name without any does not exist. Python runs this file as it
starts, where its folder is in PYTHONPATH. All other names are looked up for real.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

_real = socket.getaddrinfo


def _faked(host: Any, port: Any, *args: Any, **options: Any) -> Any:
    if not str(host).endswith(".test"):
        return _real(host, port, *args, **options)
    for line in Path(os.environ["FAKE_DNS"]).read_text("utf-8").splitlines():
        name, *addresses = line.split()
        if name == host and addresses:
            return [entry for address in addresses for entry in _real(address, port, *args, **options)]
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


socket.getaddrinfo = _faked
