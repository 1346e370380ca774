"""Which class a folder of pictures means: by the class's label as the spec has it, or by its number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Optional

from builder.spec.model import Output


@dataclass(frozen=True)
class Names:
    """The classes of an output, and what folders may be called for them.

    Attributes:
        labels: a name for each class; empty where the spec has none.
        numbers: class numbers by folded label; a label that several classes share is not in it.
    """

    count: int
    labels: List[str]
    numbers: Dict[str, int]

    @classmethod
    def of(cls, output: Output) -> Names:
        """Of an output [classes]."""
        labels = output.labels.read_text("utf-8").splitlines() if output.labels else []
        folded = [_fold(label) for label in labels]
        numbers = {name: n for n, name in enumerate(folded) if folded.count(name) == 1}
        return cls(output.dims[0], labels, numbers)

    def number(self, folder: str) -> Optional[int]:
        """The class that a folder's name means; None for no class."""
        known = self.numbers.get(_fold(folder))
        if known is None and re.fullmatch("[0-9]{1,9}", folder) and int(folder) < self.count:
            return int(folder)
        return known

    @property
    def words(self) -> str:
        """What is allowed."""
        numbers = f"a class's number (0 to {self.count - 1})"
        if not self.labels:
            return numbers
        shown = ", ".join(self.labels[:3])
        return f"a label that one class alone has ({shown}, ...), or {numbers}"


def _fold(label: str) -> str:
    """A label as far as it matters: what a folder cannot be called, and what people change, is left out."""
    return re.sub(r"[\W_]+", " ", label).strip().casefold()
