"""A client of a Triton server, made for the models of this stack.

``Model`` and ``AsyncModel`` send arrays, ``Classifier`` and ``AsyncClassifier`` pictures (with Pillow: the
extra ``pictures``). ``python -m triton_stack_client`` is the command line.
"""

from triton_stack_client.classify.answer import Classification, Label
from triton_stack_client.classify.api import AsyncClassifier, Classifier
from triton_stack_client.contract import Contract, Tensor
from triton_stack_client.errors import ClientError, ContractError, PictureError, ReleaseError, ServerError
from triton_stack_client.model import AsyncModel, Model
from triton_stack_client.transport.cuda_memory import DeviceArray

__all__ = [
    "AsyncClassifier",
    "AsyncModel",
    "Classification",
    "Classifier",
    "ClientError",
    "Contract",
    "ContractError",
    "DeviceArray",
    "Label",
    "Model",
    "PictureError",
    "ReleaseError",
    "ServerError",
    "Tensor",
]
