"""What an import dropped or changed: counted by kind, with one example of each."""

from __future__ import annotations

from collections.abc import Iterator


class Dropped(Exception):
    """A shape, an image or a file that cannot be taken over: its kind, and an example that names it."""

    def __init__(self, kind: str, example: str) -> None:
        super().__init__(f"{kind}: {example}")
        self.kind, self.example = kind, example


class Tally:
    """Counts by kind. `dropped` is what is missing from the label maps; `noted` is read but worth a look."""

    def __init__(self) -> None:
        self.dropped: dict[str, tuple[int, str]] = {}
        self.noted: dict[str, tuple[int, str]] = {}

    def drop(self, kind: str, example: str) -> None:
        _count(self.dropped, kind, 1, example)

    def note(self, kind: str, example: str) -> None:
        _count(self.noted, kind, 1, example)

    def add(self, other: Tally) -> None:
        """Adds another tally, whose examples come later."""
        for mine, theirs in ((self.dropped, other.dropped), (self.noted, other.noted)):
            for kind, (count, example) in theirs.items():
                _count(mine, kind, count, example)

    def lines(self) -> Iterator[str]:
        """The tally as text, dropped things first; nothing when there is nothing to tell."""
        for title, counts in (("dropped", self.dropped), ("noted", self.noted)):
            for kind, (count, example) in counts.items():
                yield f"{title}: {kind}: {count}, such as {example}" if count > 1 else f"{title}: {kind}: {example}"


def _count(counts: dict[str, tuple[int, str]], kind: str, count: int, example: str) -> None:
    before, first = counts.get(kind, (0, example))
    counts[kind] = before + count, first
