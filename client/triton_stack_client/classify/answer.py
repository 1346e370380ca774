"""What classifying a picture gives: its labels, best first, or the reason why there are none."""

from __future__ import annotations

from dataclasses import dataclass

from triton_stack_client.errors import ClientError


@dataclass(frozen=True)
class Label:
    """A class that a picture may show.

    Attributes:
        number: the class, from 0.
        name: its name, or "class <number>" where names are not known.
        score: what the model gives it, mostly a probability.
    """

    number: int
    name: str
    score: float


@dataclass(frozen=True)
class Classification:
    """One picture's labels, best first; none, and ``failure``, when it could not be classified.

    Attributes:
        picture: its path as given, or what stands for a picture that is no file.
    """

    picture: str
    labels: tuple[Label, ...] = ()
    failure: ClientError | None = None

    @property
    def error(self) -> str:
        """The failure in words; empty when there is none."""
        return self.failure.found if self.failure else ""
