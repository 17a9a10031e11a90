"""An import from end to end: a source read, its class list settled, images and label maps written as a `folder` set.

The folder is written aside and renamed when all of it is there: it is complete, or absent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from segjax.core.errors import DataError, StorageError
from segjax.core.files import write_bytes, write_text
from segjax.core.schema import IGNORE
from segjax.data.annotations import cityscapes, coco, cvat, labelme, voc
from segjax.data.annotations.class_list import BACKGROUND, ClassList, settle
from segjax.data.annotations.pictures import open_folder, orientation_of_labels, read_header, turn
from segjax.data.annotations.source import Picture, Source
from segjax.data.annotations.tally import Dropped, Tally
from segjax.data.builders import folder

FORMATS = ("coco", "labelme", "voc", "cvat", "cityscapes-ids")
TRANSFERS = ("copy", "link", "hard-link")
_THREADS = 4
# Six times as fast as level 9, with which prepared copies are stored, for 1.4 times the bytes (80 label maps of COCO).
_PNG = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_COMPRESSION, 6)


@dataclasses.dataclass(frozen=True)
class Imported:
    """What was written: the folder, its classes, images by split, and what was dropped or is worth a look."""

    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    tally: Tally

    def lines(self) -> Iterator[str]:
        """The import as text."""
        yield from self.tally.lines()
        for split, count in self.splits.items():
            yield f"{split}: {count} images, {len(self.classes)} classes"
        yield str(self.root)


def import_annotations(
    source_format: str,
    path: str | Path,
    root: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    classes: str | Path | None = None,
    transfer: str = "copy",
) -> Imported:
    """Writes `root`/SPLIT/{images,labels} and `root`/classes.txt from annotations of another tool.

    Args:
      source_format: one of FORMATS.
      path: the annotations' file or folder.
      root: the `folder` data set; other splits that it has stay, and their class list holds.
      split: what the split is called. None: the source's own splits, or "train".
      images: the folder of the images, where they are not beside the annotations.
      classes: a file of class names, instead of the source's list.
      transfer: how images get there, one of TRANSFERS; "link" makes symbolic links.

    Raises:
      DataError: the source is something else, nothing of it can be used, or the split is there already.
      StorageError: the folder cannot be written.
    """
    source_path, target = Path(path).expanduser(), Path(os.path.abspath(Path(root).expanduser()))
    if not source_path.exists():
        raise DataError(f"SRC: nothing is there: {str(path)!r}.")
    if target.exists() and not target.is_dir():
        raise DataError(f"--root: {target} is a file; give a folder.")
    if split is not None:
        _check_split(split, target)
    folder_of_images = None if images is None else open_folder(Path(images).expanduser(), "--images")
    listing = None if classes is None else Path(classes).expanduser()
    tally = Tally()
    source = _read(source_format, source_path, folder_of_images, target, tally, listing, split)
    chosen = settle(source.declared, str(source_path), listing, target)
    if listing is not None and source.declared.fixed and source_format != "voc":
        raise DataError(f"--classes: {source_format} has its own classes; leave it out.")
    by_split = _by_split(source.pictures, split)
    for name in by_split:
        _check_split(name, target)
    if listing is not None:
        for name in chosen.names:
            if name not in source.declared.names and name != BACKGROUND:
                tally.note("class of --classes that the source does not have", repr(name))
    if not source.pictures:
        raise DataError(_nothing(source_path, tally))
    written = _write(target, by_split, chosen, transfer, tally, source_path)
    return Imported(target, chosen.names, written, tally)


def _read(
    source_format: str,
    path: Path,
    images: Path | None,
    root: Path,
    tally: Tally,
    classes: Path | None,
    split: str | None,
) -> Source:
    if source_format in ("voc", "cityscapes-ids") and not path.is_dir():
        raise DataError(f"{path}: a file; --from {source_format} reads a folder.")
    if source_format == "coco":
        return coco.read(path, images, root, tally)
    if source_format == "labelme":
        return labelme.read(path, images, root, tally)
    if source_format == "cvat":
        return cvat.read(path, images, root, tally)
    if source_format == "voc":
        return voc.read(path, images, root, tally, classes=classes, split=split)
    return cityscapes.read(path, images, root, tally, split=split)


def _check_split(split: str, root: Path) -> None:
    """DataError for a name that is no plain folder's, or a split that exists."""
    if not split or split != Path(split).name or split.startswith(".") or split in ("images", "labels"):
        raise DataError(f"--split: {split!r} cannot be the name of a split's folder; such as train, val or test.")
    for taken in (root / split, root / "images" / split, root / "labels" / split):
        if taken.exists() or taken.is_symlink():
            raise DataError(f"--root: {taken} is there already; remove it, or choose another --root or --split.")


def _by_split(pictures: Sequence[Picture], split: str | None) -> dict[str, list[Picture]]:
    found: dict[str, list[Picture]] = {}
    for picture in pictures:
        found.setdefault(picture.split or split or "train", []).append(picture)
    if split is not None and found and split not in found:
        raise DataError(f"--split: the source has no split {split!r}; it has {', '.join(found)}.")
    return {split: found[split]} if split is not None and found else found


def _stems(pictures: Sequence[Picture], tally: Tally) -> list[str]:
    """A file stem for each picture: its name's, after its folders where that one comes twice (case apart)."""
    paths = [PurePosixPath(picture.name) for picture in pictures]
    plain = [path.stem.lstrip(".") or "image" for path in paths]
    counts = Counter(stem.casefold() for stem in plain)
    stems, used = [], set()
    for path, stem in zip(paths, plain):
        if counts[stem.casefold()] > 1:
            whole = "_".join([*(part for part in path.parts[:-1] if part.strip("./")), stem])
            stem, number = whole, 2
            while stem.casefold() in used or (stem != plain[len(stems)] and stem.casefold() in counts):
                stem, number = f"{whole}_{number}", number + 1
            tally.note("file name that several images have, made unique", f"{path} -> {stem}")
        used.add(stem.casefold())
        stems.append(stem)
    return stems


def _write(
    root: Path,
    by_split: Mapping[str, Sequence[Picture]],
    classes: ClassList,
    transfer: str,
    tally: Tally,
    source: Path,
) -> dict[str, int]:
    """Writes the splits aside and renames them; returns the number of images of each."""
    new = not root.exists()
    home = root.parent if new else root
    missing = [parent for parent in (home, *home.parents) if not parent.exists()]
    # Hidden, and a level deeper than a split: nothing takes what an interruption leaves for one.
    aside = home / f".{root.name}.import-{uuid.uuid4().hex[:8]}"
    done = False
    try:
        aside.mkdir(parents=True)
        splits = {
            split: _write_split(aside / split, pictures, classes, transfer, tally)
            for split, pictures in by_split.items()
        }
        written = {split: found.images for split, found in splits.items() if found.images}
        if not written or not any(found.objects for found in splits.values()):
            raise DataError(_nothing(source, tally, images=bool(written)))
        write_text(aside / "classes.txt", classes.text())
        _check_reading(aside, root, classes)
        _move(aside, root, list(written), new)
        done = True
        return written
    except OSError as error:
        raise StorageError(
            f"{root} could not be written: {error.strerror or error}; free space, or choose another --root."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if not done:
            for parent in missing:
                with contextlib.suppress(OSError):
                    parent.rmdir()


@dataclasses.dataclass
class _Written:
    """What a split holds: images, grey ones among them, and how many show something else than background and void."""

    images: int = 0
    grey: int = 0
    objects: int = 0


def _write_split(path: Path, pictures: Sequence[Picture], classes: ClassList, transfer: str, tally: Tally) -> _Written:
    """Writes `path`/images and `path`/labels."""
    images, labels = path / "images", path / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    written = _Written()

    def write(picture: Picture, stem: str) -> tuple[Tally, _Written]:
        told = Tally()
        try:
            return told, _write_picture(picture, stem, images, labels, classes, transfer, told)
        except Dropped as drop:
            told.drop(drop.kind, drop.example)
            return told, _Written()

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for told, one in pool.map(write, pictures, _stems(pictures, tally)):
                tally.add(told)
                written.images += one.images
                written.grey += one.grey
                written.objects += one.objects
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if 0 < written.grey < written.images:
        tally.note(
            "grey images among colour images (say so in training: --config.data.options.channels=3)",
            f"{written.grey} of {written.images} in {path.name}",
        )
    if not written.images:
        shutil.rmtree(path)
    return written


def _write_picture(
    picture: Picture, stem: str, images: Path, labels: Path, classes: ClassList, transfer: str, tally: Tally
) -> _Written:
    """Writes one image and its label map. Nothing is left of one that is dropped."""
    suffix = picture.file.suffix if picture.file else PurePosixPath(picture.name).suffix
    image = images / (stem + suffix)
    if picture.file is None:
        write_bytes(image, picture.data())
    try:
        header = read_header(picture.file or image)
        if picture.size is not None:  # before anything of that size is made
            orientation_of_labels(picture.size, header, picture.upright, picture.name)
        label = picture.draw(picture.size or header.upright, classes, tally)
        orientation = orientation_of_labels(label.shape, header, picture.upright, picture.name)
    except Dropped:
        image.unlink(missing_ok=True)
        raise
    ok, encoded = cv2.imencode(".png", turn(label, orientation), _PNG)
    assert ok, f"PNG of {label.shape} {label.dtype}"
    write_bytes(labels / f"{stem}.png", encoded.tobytes())
    if picture.file is not None:
        _transfer(picture.file, image, transfer)
    present = set(np.flatnonzero(np.bincount(label.ravel(), minlength=IGNORE + 1)).tolist()) - {IGNORE}
    if not present:
        tally.note("image that is all void", picture.name)
    objects = present - {ident for ident, name in enumerate(classes.names) if name == BACKGROUND}
    return _Written(1, int(header.grey), int(bool(objects)))


def _transfer(source: Path, target: Path, how: str) -> None:
    if how == "link":
        target.symlink_to(source.absolute())
    elif how == "hard-link":
        try:
            os.link(source.resolve(), target)
        except OSError as error:
            raise StorageError(
                f"{source}: no hard link to it can be made at {target.parent} ({error.strerror}); use --copy or --link."
            ) from error
    else:
        shutil.copyfile(source, target)


def _check_reading(aside: Path, root: Path, classes: ClassList) -> None:
    """DataError unless the `folder` set reads back the class list that was meant."""
    try:
        read = folder.layout(aside, {})
    except DataError as error:
        raise DataError(str(error).replace(str(aside), str(root))) from error
    if read.classes != classes.names or read.palette != classes.colours:
        wrong = next((meant for meant, got in zip(classes.names, read.classes) if meant != got), classes.names[-1])
        raise DataError(f"classes.txt cannot hold the class name {wrong!r}; rename it in the source.")


def _move(aside: Path, root: Path, splits: Sequence[str], new: bool) -> None:
    """Renames what is complete to its place: as a whole, or split by split into a folder that exists."""
    if new:
        os.rename(aside, root)
        return
    moved: list[Path] = []
    listing = root / "classes.txt"
    first = not listing.exists()
    try:
        for split in splits:
            os.rename(aside / split, root / split)
            moved.append(root / split)
        if first:
            os.rename(aside / "classes.txt", listing)
    except BaseException:
        for path in moved:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _nothing(source: Path, tally: Tally, *, images: bool = False) -> str:
    """The one line for a source of which nothing is left."""
    reasons = "; ".join(f"{kind}: {count}, such as {example}" for kind, (count, example) in tally.dropped.items())
    what = "its images show background and void alone" if images else "no image can be imported"
    return f"{source}: {what}{f' ({reasons})' if reasons else ', nothing is annotated'}."
