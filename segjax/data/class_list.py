"""`classes.txt`: the names of a data set's classes in label order, and their colours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.palettes import Palette

# A number before or behind a name, as other lists have the class's id, and what stands between them.
_HEAD = re.compile(r"\(?(\d+)(\s*[.:;,=)\]|-]\s*|\s+)(\S.*)")
_TAIL = re.compile(r"(.*\S)(\s*[:;,=|]\s*|\s+)(\d+)")
# A colour of another form: `name:r,g,b::` (CVAT), `name (r, g, b)`, `name #rrggbb`.
_COLOUR = re.compile(r"[:(\[]\s*\d+\s*[,;\s]\s*\d+\s*[,;\s]\s*\d+\s*([\])]|:.*|$)|#[0-9a-fA-F]{6}$")
_INVISIBLE = str.maketrans("", "", "\ufeff\u200b")  # byte-order marks of files put together, blanks without a width


class ClassList(NamedTuple):
    """K class names in label order, and their K colours or None where the list has none."""

    names: tuple[str, ...]
    colours: Palette | None


def read_class_list(path: str | Path, single: bool = False) -> ClassList:
    """The class list of a data set, as `parse_class_list` reads it; `single`: one class is enough.

    Raises:
      DataError: as there, and a list that segjax cannot train on (`check_names`).
    """
    listed = parse_class_list(path)
    check_names(listed.names, str(path), single)
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
    if text.startswith("version https://git-lfs"):
        raise DataError(f"{path}: a pointer of Git LFS, not the file itself (`git lfs pull` fetches it).")
    names, colours = [], []
    lines = [(n, line.translate(_INVISIBLE).strip()) for n, line in enumerate(text.splitlines(), 1)]
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


def check_names(names: Sequence[str], where: str, single: bool = False) -> None:
    """Raises DataError for a list that segjax cannot train on: none, too many, a name twice, or one unless `single`."""
    _refuse_twice(names, where)
    if len(names) == 1 and not single:
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
    if _COLOUR.search(line):
        raise DataError(f"{where}: {line!r} has a colour of another form; write `name r g b`.")
    if line[0] in "[]{}\"'" or line[-1] in "]}\"',;" or line.startswith("- ") or words[-1].endswith(":"):
        raise DataError(
            f"{where}: {line!r} is of a list of another language; write one class a line, without quotes, brackets or"
            " commas."
        )
    return " ".join(words), None


def _refuse_numbering(path: str | Path, names: Sequence[str]) -> None:
    """`0 road`, `1: car`, `road,0`: numbers of classes, which would become part of the names, and might be others than
    those of the lines. The first line may be a heading."""
    for rows in (names, names[1:]):
        heads, tails = ([found.fullmatch(name) for name in rows] for found in (_HEAD, _TAIL))
        if len(rows) < 2:
            return
        numbered = False
        if all(heads):
            numbered = _in_a_row([int(head[1]) for head in heads]) or any(head[2].strip() for head in heads)
        elif all(tails) and len({tail[1] for tail in tails}) == len(rows):  # unlike `class 0`, `class 1`
            numbers = [int(tail[3]) for tail in tails]
            numbered = _in_a_row(numbers) and min(numbers) < 2
        if numbered:
            raise DataError(
                f"{path}: the lines are numbered ({rows[0]!r}, {rows[1]!r}); write the classes in the order of their"
                " numbers, beginning with 0, and leave the numbers out."
            )


def _in_a_row(numbers: Sequence[int]) -> bool:
    """Whether they are n, n + 1 and so on, in any order."""
    return sorted(numbers) == list(range(min(numbers), min(numbers) + len(numbers)))


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
