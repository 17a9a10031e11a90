"""A list of classes in a text file: one a line in label order, `name` or `name r g b`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from segjax.core.errors import DataError
from segjax.data.palettes import Palette


class ClassList(NamedTuple):
    """Names, and colours where the file has them."""

    names: tuple[str, ...]
    colours: Palette | None


def read_class_list(path: str | Path) -> ClassList:
    """Reads the list.

    Raises:
      DataError: a file that is missing or no such list.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); write one class a line, as UTF-8 text.") from error
    rows = [line.split() for line in lines if line.strip()]
    coloured = [len(words) > 3 and all(word.isdigit() and int(word) < 256 for word in words[-3:]) for words in rows]
    if not rows or any(coloured) != all(coloured):
        raise DataError(f"{path}: {sum(coloured)} of {len(rows)} classes have a colour; give all or none.")
    if not all(coloured):
        return ClassList(tuple(" ".join(words) for words in rows), None)
    names = tuple(" ".join(words[:-3]) for words in rows)
    return ClassList(names, tuple((int(r), int(g), int(b)) for *_, r, g, b in rows))
