"""Two lists of class names that meet: a checkpoint's, a data set's, that of a folder of predictions."""

from __future__ import annotations

from collections.abc import Sequence

from segjax.core.schema import IGNORE

VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore")
"""What lists call an output that is no class; in lists that do not say which one is void."""


def first_difference(theirs: Sequence[str], ours: Sequence[str]) -> str | None:
    """Where two lists part, for an error: `class 1 is 'a' there and 'bg' here`; None where they are the same.

    Names are compared without regard to case, `_` and runs of blanks.
    """
    for index, (there, here) in enumerate(zip(theirs, ours)):
        if _plain(there) != _plain(here):
            return f"class {index} is {there!r} there and {here!r} here"
    if len(theirs) != len(ours):
        index = min(len(theirs), len(ours))
        longer, where, other = (theirs, "there", "here") if len(theirs) > len(ours) else (ours, "here", "there")
        return f"class {index} is {longer[index]!r} {where} and missing {other}"
    return None


def unshared(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """What keeps two lists from having the same names, whatever their order, for an error."""
    there, here = {_plain(name) for name in theirs}, {_plain(name) for name in ours}
    for index, (one, other) in enumerate(zip(theirs, ours)):
        if _plain(one) not in here and _plain(other) not in there:
            return f"class {index} is {one!r} there and {other!r} here"
    alone = [f"{name!r} is only there" for name in theirs if _plain(name) not in here][:1]
    alone += [f"{name!r} is only here" for name in ours if _plain(name) not in there][:1]
    return " and ".join(alone) or "a name stands twice, and the order is another"


def by_name(theirs: Sequence[str], ours: Sequence[str], void: int | None = None) -> tuple[int, ...] | None:
    """For each of their classes, the number that ours gives the same name; IGNORE for their void class.

    Args:
      theirs, ours: class names, in label order.
      void: their class that means void; None: the one with a name of `VOID_NAMES` that ours has not, if any.

    Returns:
      None where one list has a name that the other has not, or names one twice in another order than the other.
    """
    if void is None and first_difference(theirs, ours) is None:
        return tuple(range(len(theirs)))
    places = {_plain(name): index for index, name in enumerate(ours)}
    if void is None:
        spare = [i for i, name in enumerate(theirs) if _plain(name) in VOID_NAMES and _plain(name) not in places]
        void = spare[0] if len(spare) == 1 else None
    kept = [name for index, name in enumerate(theirs) if index != void]
    if first_difference(kept, ours) is None:
        numbers = iter(range(len(ours)))
    elif len(places) == len(ours) == len(kept) and {_plain(name) for name in kept} == set(places):
        numbers = iter(places[_plain(name)] for name in kept)
    else:
        return None
    return tuple(IGNORE if index == void else next(numbers) for index in range(len(theirs)))


def by_place(theirs: Sequence[str], ours: Sequence[str], void: int | None = None) -> tuple[int, ...] | None:
    """As `by_name`, the names not looked at; None where the numbers of classes differ."""
    if len(theirs) - (void is not None) != len(ours):
        return None
    numbers = iter(range(len(ours)))
    return tuple(IGNORE if index == void else next(numbers) for index in range(len(theirs)))


def without(classes: Sequence[str], void: int | None) -> list[str]:
    """The names but the void class's."""
    return [name for index, name in enumerate(classes) if index != void]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()
