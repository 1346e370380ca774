"""The client: talks to Triton over HTTP and gRPC.

``Model`` and ``AsyncModel`` are for other people's services; ``python -m client`` is the command line.
"""

from client.model import AsyncModel, Model

__all__ = ["AsyncModel", "Model"]
