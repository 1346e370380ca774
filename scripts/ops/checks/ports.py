"""Can a server listen on a port of this machine?"""

from __future__ import annotations

import socket


def port_problem(host: str, port: int) -> str:
    """Why a server cannot listen there; empty when it can."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError as e:
            return e.strerror or str(e)
    return ""
