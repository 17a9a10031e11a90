"""A data set as it lies on disk: which files are a sample, and what their label values mean.

Nothing here opens an image. `prepare`, `check` and the key of the cache all start from the same `Layout`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.core.errors import ConfigError, DataError, suggest
from segjax.core.schema import IGNORE
from segjax.data.palettes import Palette

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".npy")


@dataclasses.dataclass(frozen=True)
class Sample:
    """The files of one sample. `region` is a mask whose zeros become void (DRIVE's field of view)."""

    name: str
    image: Path
    label: Path | None
    region: Path | None = None


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

    def first(self) -> Sample:
        """The sample that fixes channels and pixel type: the first of `train`, or of the first split."""
        return self.splits["train" if "train" in self.splits else next(iter(self.splits))][0]

    def files(self) -> list[Path]:
        """Every file that the prepared copy depends on, in a fixed order."""
        paths = [self.root / "classes.txt"] if (self.root / "classes.txt").is_file() else []
        for split in self.splits.values():
            for sample in split:
                paths += [path for path in (sample.image, sample.label, sample.region) if path is not None]
        return paths

    def way_out(self) -> str:
        """What the error of one bad file points to."""
        return f"`segjax data check {self.name} --root {self.root}` lists every such file."


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


def list_files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """stem -> file of `folder`, sorted; hidden files and other suffixes are passed over."""
    found: dict[str, Path] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}).") from error
    for path in paths:
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise DataError(f"{path}: {found[path.stem].name} has the same stem, so their labels cannot be told apart.")
        found[path.stem] = path
    return found


def pair(
    images: Path, labels: Path, regions: Path | None = None, *, suffix: str = ""
) -> tuple[tuple[Sample, ...], tuple[Path, ...]]:
    """Pairs images and labels (named as the image plus `suffix`) by stem; returns samples and labels left over."""
    label_files = list_files(labels, LABEL_SUFFIXES) if labels.is_dir() else {}
    region_files = list_files(regions, LABEL_SUFFIXES) if regions is not None and regions.is_dir() else {}
    samples = tuple(
        Sample(stem, path, label_files.pop(stem + suffix, None), region_files.get(stem))
        for stem, path in list_files(images, IMAGE_SUFFIXES).items()
    )
    return samples, tuple(label_files.values())


def find_splits(
    name: str, root: Path, folders: Mapping[str, tuple[Path, Path, Path | None]], expected: str, *, suffix: str = ""
) -> tuple[dict[str, tuple[Sample, ...]], tuple[Path, ...]]:
    """The splits of `folders` (split -> images, labels, regions) that exist; DataError when there is none."""
    splits, orphans = {}, []
    for split, (images, labels, regions) in folders.items():
        if not images.is_dir():
            continue
        samples, left = pair(images, labels, regions, suffix=suffix)
        orphans += left
        if samples:
            splits[split] = samples
    if not splits:
        raise DataError(f"data.root: {str(root)!r} holds no {name!r} data set; expected {expected}.")
    return splits, tuple(orphans)


def require_labels(layout: Layout) -> None:
    """DataError when images lack their label file."""
    missing = [s.image for split in layout.splits.values() for s in split if s.label is None]
    if missing:
        raise DataError(f"{missing[0]}: no label file ({len(missing)} images lack one). {layout.way_out()}")


def take_options(name: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """`known` defaults overlaid by `options`; ConfigError for a key that is not among them."""
    for key in options:
        if key not in known:
            near = suggest(key, known) if known else " It has none."
            raise ConfigError(f"config.data.options.{key}: the data set {name!r} has no such option.{near}")
    return {**known, **options}
