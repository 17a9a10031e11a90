"""A data set as it lies on disk: which files are a sample, and what their label values mean.

Nothing here opens an image. `prepare`, `check` and the key of the cache all start from the same `Layout`.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from segjax.core.errors import ConfigError, DataError, suggest
from segjax.core.schema import IGNORE, INSTANCE, LABEL
from segjax.data.palettes import Palette
from segjax.data.problem import Problem

if TYPE_CHECKING:
    from segjax.data.instances.objects import Reader

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".npy")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".npy")
MAX_INSTANCES = 100
_CLUTTER = ("thumbs.db", "desktop.ini")  # of file managers
# Of programs that keep notes beside a picture; passed over without a word.
_SIDECARS = (".tfw", ".pgw", ".jgw", ".xml", ".prj", ".ovr", ".txt", ".json", ".csv", ".md", ".yaml", ".yml", ".ini")


@dataclasses.dataclass(frozen=True)
class Sample:
    """The files of one sample.

    Attributes:
      name: what it is called; predictions get this name.
      image, label: files.
      region: a mask whose zeros become void (DRIVE's field of view).
      instances: reads its instances, and in panoptic sets its label.
    """

    name: str
    image: Path
    label: Path | None
    region: Path | None = None
    instances: Reader | None = None

    def files(self) -> list[Path]:
        """Those that are there."""
        annotated = None if self.instances is None else self.instances.file
        return [path for path in (self.image, self.label, self.region, annotated) if path is not None]


class Unread(NamedTuple):
    """A file or folder that is not read, and why."""

    path: Path
    why: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """A listed data set.

    Attributes:
      name: the data set's name.
      root: its folder.
      classes: K class names, in label order.
      palette: K colours.
      splits: split name -> samples, sorted by name.
      values: value in the label files -> class id or IGNORE; any other value is an error.
      colours: label pictures with three channels are read by `palette`.
      channels: image channels, None = those of the first image.
      statistics: whether mean and std are ImageNet's ("imagenet"), measured ("data"), or chosen by the image type.
      orphans: label files without an image.
      unread: what lies among images or labels and is not read, each with the reason.
      hint: what the labels' folder holds where images lack a label.
      stated: label values whose meaning the set or the user gives by name, so that nothing needs to be guessed.
      void_colours: colours of label pictures that are void.
      palettes: palette labels count by "indices", by "colours", or by what their palette shows ("auto").
      nodata: image values that are no measurement, besides those that a TIFF declares; "none": not those, either.
      annotations: what a sample has besides its image, keys of `core.schema`: `label`, `instance` or both.
      things: the classes that have instances.
      max_instances: instances of an image that are kept.
      lists: further files that say what is in the set.
      problems: what was wrong with them.
      notes: what was read of them and deserves a look.
      skip_bad: bad annotations are left out and counted, instead of refused.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    palette: Palette
    splits: Mapping[str, tuple[Sample, ...]]
    values: Mapping[int, int]
    colours: bool = False
    channels: int | None = None
    statistics: str = "auto"
    orphans: tuple[Path, ...] = ()
    unread: tuple[Unread, ...] = ()
    hint: str = ""
    stated: frozenset[int] = frozenset()
    void_colours: Palette = ()
    palettes: str = "auto"
    nodata: Any = None
    annotations: tuple[str, ...] = (LABEL,)
    things: tuple[int, ...] = ()
    max_instances: int = MAX_INSTANCES
    lists: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    skip_bad: bool = False

    @property
    def measured_split(self) -> str:
        """The split that mean and std are measured on: `train`, or the first."""
        return "train" if "train" in self.splits else next(iter(self.splits))

    def first(self) -> Sample:
        """The sample that fixes channels and pixel type: the first of the measured split."""
        return self.splits[self.measured_split][0]

    def files(self) -> list[Path]:
        """Every file that the prepared copy depends on, in a fixed order."""
        paths = [self.root / "classes.txt"] if (self.root / "classes.txt").is_file() else []
        paths += self.lists
        for split in self.splits.values():
            for sample in split:
                paths += sample.files()
        return list(dict.fromkeys(paths))

    def way_out(self) -> str:
        """What the error of one bad file points to; nothing for files that are no data set (of predictions)."""
        if not self.splits:
            return ""
        return f"`segjax data check {self.name} --root {self.root}` lists every such file."


def in_order(splits: Iterable[str]) -> list[str]:
    """Split names: train, val, test, then the others by name."""
    order = ("train", "val", "test")
    return sorted(splits, key=lambda name: (order.index(name) if name in order else len(order), name))


def class_values(num_classes: int, void: Mapping[int, int] | None = None) -> dict[int, int]:
    """Identity for the class ids, IGNORE for 255, and the set's own `void` values on top."""
    return {**{k: k for k in range(num_classes)}, IGNORE: IGNORE, **(void or {})}


def open_root(name: str, root: str | Path | None) -> Path:
    """`root` as a Path, or the DataError that says how to give one."""
    if root is None:
        raise DataError(
            f"data set {name!r} reads its own folder: give it with --root DIR, or --config.data.root=DIR when training."
        )
    path = Path(root).expanduser()
    if not path.is_dir():
        raise DataError(f"data.root: no folder {str(root)!r}; give the folder that holds the {name!r} data set.")
    return path


def list_files(folder: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, Path], tuple[Unread, ...]]:
    """stem -> file of `folder`, sorted, and what lies there besides and is not read.

    Hidden files and the notes that programs keep beside pictures are passed over.

    Raises:
      DataError: the folder cannot be listed, or two files share a stem.
    """
    found: dict[str, Path] = {}
    unread = []
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}).") from error
    for path in paths:
        suffix = path.suffix.lower()
        if path.name.startswith(".") or path.name.lower() in _CLUTTER:
            continue
        if path.is_dir():
            unread.append(Unread(path, "a folder; move its files up"))
        elif suffix not in suffixes:
            if suffix not in _SIDECARS:
                unread.append(Unread(path, _why_unread(suffix, suffixes)))
        elif path.stem in found:
            raise DataError(f"{path}: {found[path.stem].name} has the same stem, so their labels cannot be told apart.")
        else:
            found[path.stem] = path
    return found, tuple(unread)


def _why_unread(suffix: str, suffixes: tuple[str, ...]) -> str:
    if suffix in IMAGE_SUFFIXES:  # of a label
        return f"{suffix[1:].upper()} changes label values; save it as PNG"
    return f"{suffix or 'a name without a suffix'} is not read; use {', '.join(suffixes)}"


def seen(folder: Path) -> str:
    """What a folder holds, for an error: `3 .gif, 2 folders (aachen, bochum)`; `nothing`."""
    try:
        paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError as error:
        return f"what cannot be listed ({error.strerror})"
    kinds = collections.Counter(path.suffix.lower() or "without a suffix" for path in paths if not path.is_dir())
    parts = [f"{count} {kind}" for kind, count in sorted(kinds.items())]
    folders = [path.name for path in paths if path.is_dir()]
    if folders:
        more = ", ..." if len(folders) > 6 else ""
        parts.append(f"{len(folders)} folder{'s' * (len(folders) > 1)} ({', '.join(folders[:6])}{more})")
    return ", ".join(parts) or "nothing"


def pair(
    images: Path, labels: Path, regions: Path | None = None, *, suffix: str = ""
) -> tuple[tuple[Sample, ...], tuple[Path, ...], tuple[Unread, ...]]:
    """Pairs images and labels (named as the image plus `suffix`) by stem; returns samples, labels left over, unread."""
    image_files, unread = list_files(images, IMAGE_SUFFIXES)
    label_files, unread_labels = list_files(labels, LABEL_SUFFIXES) if labels.is_dir() else ({}, ())
    region_files = list_files(regions, LABEL_SUFFIXES)[0] if regions is not None and regions.is_dir() else {}
    samples = tuple(
        Sample(stem, path, label_files.pop(stem + suffix, None), region_files.get(stem))
        for stem, path in image_files.items()
    )
    return samples, tuple(label_files.values()), (*unread, *unread_labels)


class Splits(NamedTuple):
    """What `find_splits` found: samples by split, labels without an image, what is not read, and a hint (`Layout`)."""

    splits: dict[str, tuple[Sample, ...]]
    orphans: tuple[Path, ...]
    unread: tuple[Unread, ...]
    hint: str


def find_splits(
    name: str, root: Path, folders: Mapping[str, tuple[Path, Path, Path | None]], expected: str, *, suffix: str = ""
) -> Splits:
    """The splits of `folders` (split -> images, labels, regions) that exist; DataError when there is none."""
    splits, orphans, unread, hints, empty = {}, [], [], [], []
    for split, (images, labels, regions) in folders.items():
        if not images.is_dir():
            continue
        samples, left, others = pair(images, labels, regions, suffix=suffix)
        orphans += left
        unread += others
        if samples:
            splits[split] = samples
            if all(sample.label is None for sample in samples):
                hints.append(_label_hint(samples, left, labels))
        else:
            empty.append(images)
    if not splits:
        there = [f"{folder.relative_to(root)} holds {seen(folder)}" for folder in empty] or [f"it holds {seen(root)}"]
        raise DataError(
            f"data.root: {str(root)!r} holds no {name!r} data set; expected {expected}, with images that end in"
            f" {', '.join(IMAGE_SUFFIXES)}; {'; '.join(there)}."
        )
    return Splits(splits, tuple(orphans), tuple(unread), next(filter(None, hints), ""))


def _label_hint(samples: tuple[Sample, ...], left: tuple[Path, ...], labels: Path) -> str:
    """Why images lack a label, from what lies where the labels should."""
    if not labels.is_dir():
        near = [path.name for path in sorted(labels.parent.iterdir()) if path.is_dir() and path.name != "images"]
        return f"{labels} is not there; beside it lie {', '.join(near) or 'no folders'}: rename the labels' folder"
    stems = {sample.name for sample in samples}
    ends = {path.stem[len(stem) :] for path in left[:20] for stem in stems if path.stem.startswith(stem)}
    if len(ends) == 1:
        end = ends.pop()
        return f"labels are named like {left[0].name}: set data.options.label_suffix={end!r}"
    return f"{labels} holds {seen(labels)}"


def lacking(layout: Layout, sample: Sample) -> str | None:
    """The file that a sample lacks, `label` or `instance`; None where all are there."""
    if LABEL in layout.annotations and sample.label is None and sample.instances is None:
        return LABEL
    return INSTANCE if INSTANCE in layout.annotations and sample.instances is None else None


def require_annotations(layout: Layout) -> None:
    """DataError when images lack their label or instance file."""
    missing = [(s.image, lack) for split in layout.splits.values() for s in split if (lack := lacking(layout, s))]
    if missing:
        hint = f" ({layout.hint})" if layout.hint else ""
        path, kind = missing[0]
        raise DataError(f"{path}: no {kind} file ({len(missing)} images lack one){hint}. {layout.way_out()}")


def take_options(name: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """`known` defaults overlaid by `options`; ConfigError for a key that is not among them."""
    for key in options:
        if key not in known:
            near = suggest(key, known) if known else " It has none."
            raise ConfigError(f"config.data.options.{key}: the data set {name!r} has no such option.{near}")
    return {**known, **options}
