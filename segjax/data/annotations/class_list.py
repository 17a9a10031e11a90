"""Class lists brought together: what a source declares, a file of the user's, the `classes.txt` of the data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.class_list import parse_class_list
from segjax.data.palettes import Palette, distinct

BACKGROUND = "background"
_BACKGROUND_NAMES = (BACKGROUND, "_background_", "__background__")
VOID_NAME = "__ignore__"  # labelme's


@dataclasses.dataclass(frozen=True)
class Declared:
    """The classes of a source.

    Attributes:
      names: in label order, already tidy.
      colours: of the names, where the format has its own.
      background: what no shape covers is the class `background` (False: every pixel is labelled or void).
      closed: the list is the source's own; False when it was gathered from the shapes, so that another split may have
        more.
      fixed: the label files mean these classes by number, so that a file of classes cannot choose among them.
    """

    names: tuple[str, ...]
    colours: Palette | None = None
    background: bool = True
    closed: bool = True
    fixed: bool = False


@dataclasses.dataclass(frozen=True)
class ClassList:
    """The classes of the data set that is written, in label order."""

    names: tuple[str, ...]
    colours: Palette

    def ident(self, name: str) -> int | None:
        """The class id of a tidy name, 255 for labelme's `__ignore__`, None for a name that is not in the list."""
        if name == VOID_NAME:
            return IGNORE
        return self.names.index(name) if name in self.names else None

    def text(self) -> str:
        """The lines of `classes.txt`."""
        return "".join(f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(self.names, self.colours))


def tidy(name: object) -> str:
    """A class name with single blanks between its words; background has one spelling. "" if it is no name."""
    if not isinstance(name, str):
        return ""
    words = " ".join(name.replace("\ufeff", "").split())
    return BACKGROUND if words in _BACKGROUND_NAMES else words


def read_names(path: Path) -> tuple[tuple[str, ...], Palette | None]:
    """Tidy names and colours of a class list, which may have one class; labelme's `__ignore__` is void and left out.

    Raises:
      DataError: as `parse_class_list`, and a list that names nothing.
    """
    names, colours = parse_class_list(path)
    kept = [place for place, name in enumerate(names) if tidy(name) != VOID_NAME]
    if not kept:
        raise DataError(f"{path}: no class names; write one a line.")
    tidied = tuple(tidy(names[place]) for place in kept)
    check_names(tidied, str(path))
    return tidied, None if colours is None else tuple(colours[place] for place in kept)


def check_names(names: Sequence[str], origin: str) -> None:
    """DataError when there are too many names for 8-bit labels, or one of them comes twice."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{origin}: the class {repeated[0]!r} is named twice.")
    if len(names) > IGNORE:
        raise DataError(
            f"{origin}: {len(names)} classes; label maps hold {IGNORE} (255 is void). Choose some with --classes FILE."
        )


def settle(declared: Declared, origin: str, given: Path | None, root: Path) -> ClassList:
    """The class list to write by.

    Args:
      declared: what the source has.
      origin: the source, for messages.
      given: the file of `--classes`.
      root: the data set's folder; the list of an earlier import into it is kept.

    Raises:
      DataError: the lists differ, by name.
    """
    names, colours, closed, told = declared.names, declared.colours, declared.closed, origin
    if given is not None and not declared.fixed:
        (names, colours), closed, told = read_names(given), True, str(given)
    if declared.background and BACKGROUND not in names:
        names, colours = (BACKGROUND, *names), None
    check_names(names, told)
    listing = root / "classes.txt"
    if listing.is_file():
        kept, kept_colours = read_names(listing)
        new = [name for name in names if name not in kept]
        gone = [name for name in kept if name not in names] if closed else []
        if new or gone:
            where = f"{new[0]!r} is only in {told}" if new else f"{gone[0]!r} is only in {listing}"
            raise DataError(
                f"{listing}: another class list than {told}: {where}; take another --root, or"
                f" --classes {listing} to read by that list."
            )
        names, colours = kept, kept_colours
    return ClassList(names, colours if colours and len(set(colours)) == len(names) else distinct(len(names)))
