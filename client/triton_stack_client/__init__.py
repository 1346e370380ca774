"""The client: talks to Triton over HTTP and gRPC.

``Model`` and ``AsyncModel`` are for your own services; ``python -m triton_stack_client`` is the command line.
"""

from triton_stack_client.model import AsyncModel, Model

__all__ = ["AsyncModel", "Model"]
