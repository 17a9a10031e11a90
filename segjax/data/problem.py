"""What is wrong with a data set, as check lists it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong: its kind, and a line that names the file or the set."""

    kind: str
    text: str
