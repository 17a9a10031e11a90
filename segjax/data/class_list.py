"""`classes.txt`: the names of a data set's classes in label order, and their colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.palettes import Palette


class ClassList(NamedTuple):
    """K class names in label order, and their K colours or None where the list has none."""

    names: tuple[str, ...]
    colours: Palette | None


def read_class_list(path: str | Path) -> ClassList:
    """The class list of a data set, as `parse_class_list` reads it.

    Raises:
      DataError: as there, and a list that segjax cannot train on (`check_names`).
    """
    listed = parse_class_list(path)
    check_names(listed.names, str(path))
    return listed


def parse_class_list(path: str | Path) -> ClassList:
    """Reads one class a line, `name` or `name r g b` (0..255); empty lines and those that begin with `#` do not count.

    Raises:
      DataError: no such file, not UTF-8, a line of another form, a name or colour that stands for two classes.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")  # Windows editors begin a file with a byte-order mark
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file; write one class a line (`name` or `name r g b`), or set data.options.classes."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8 text.") from error
    names, colours = [], []
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    for number, line in lines:
        name, colour = _parse(f"{path}: line {number}", line)
        names.append(name)
        if colour is not None:
            colours.append(colour)
    _refuse_numbering(path, names)
    _refuse_twice(names, str(path))
    if colours and len(colours) != len(names):
        raise DataError(f"{path}: {len(colours)} of {len(names)} classes have a colour; give all or none.")
    twice = _repeated(colours)
    if twice is not None:
        raise DataError(f"{path}: colour {twice} stands for two classes; give each its own.")
    return ClassList(tuple(names), tuple(colours) or None)


def check_names(names: Sequence[str], where: str) -> None:
    """Raises DataError for a list that segjax cannot train on: one class or none, too many, a name twice."""
    _refuse_twice(names, where)
    if len(names) == 1:
        raise DataError(
            f"{where}: one class, {names[0]!r}, leaves nothing to tell apart; list the background as a class before it"
            " (and set data.options.values={255: 1} for masks of 0 and 255)."
        )
    if not names or len(names) > IGNORE:
        raise DataError(f"{where}: {len(names)} classes; segjax takes 2 to {IGNORE} (255 is void).")


def write_class_list(names: Sequence[str], palette: Sequence[Sequence[int]]) -> str:
    """The text that `read_class_list` reads."""
    return "".join(f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(names, palette, strict=True))


def _parse(where: str, line: str) -> tuple[str, tuple[int, int, int] | None]:
    if any(ord(character) < 32 and character != "\t" for character in line):
        raise DataError(f"{where}: {line!r} is not text; save the list as UTF-8 text, one class a line.")
    words = line.split()
    numbers = [word.isdecimal() for word in words]
    if len(words) >= 4 and all(numbers[-3:]):
        colour = tuple(int(word) for word in words[-3:])
        if max(colour) > 255:
            raise DataError(f"{where}: colour {colour} leaves 0..255.")
        return " ".join(words[:-3]), colour
    parts = [part.strip() for part in line.replace(";", ",").split(",")]
    if len(words) >= 4 and all(numbers[:3]):
        raise DataError(f"{where}: {line!r} has the colour first; write `name r g b`.")
    if len(parts) >= 4 and (all(p.isdecimal() for p in parts[-3:]) or all(p.isdecimal() for p in parts[:3])):
        raise DataError(f"{where}: {line!r} has commas between name and colour; write `name r g b`.")
    if any(line.count(mark) >= 2 and line.startswith(start) for mark, start in (('"', "["), ("'", "["), (":", "{"))):
        raise DataError(f"{where}: {line!r} is a list of another language; write one class a line.")
    return " ".join(words), None


def _refuse_numbering(path: str | Path, names: Sequence[str]) -> None:
    """`0 road`, `1: car`: numbers of lines, which would become part of the names."""
    heads = [name.replace(":", " ").replace(",", " ").replace("\t", " ").split(" ", 1) for name in names]
    if len(names) < 2 or any(len(head) < 2 or not head[0].isdecimal() for head in heads):
        return
    numbers = [int(head[0]) for head in heads]
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        raise DataError(f"{path}: the lines are numbered ({names[0]!r}, {names[1]!r}); leave the numbers out.")


def _refuse_twice(names: Sequence[str], where: str) -> None:
    twice = _repeated(names)
    if twice is not None:
        raise DataError(f"{where}: class {twice!r} is listed twice; give each class a name of its own.")


def _repeated(items: Iterable[object]) -> object | None:
    seen = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None
