"""CVAT's XML for video: tracks of shapes, frame by frame.

CVAT writes a shape for every frame of a track, those between keyframes interpolated. Frames that the file passes over
are filled as CVAT fills them, where that is certain: boxes and ellipses move evenly and turn the shorter way, other
shapes stay where the next one is the same. Between different polygons or masks they are dropped and told. A track
lasts until a shape says `outside`, or to the last frame. Source: TrackManager.get_interpolated_shapes of
cvat-ai/cvat.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from segjax.core.errors import DataError
from segjax.data.annotations.cvat_shapes import Shape, draw_shapes, number
from segjax.data.annotations.pictures import ImageFolders
from segjax.data.annotations.source import Picture, Size
from segjax.data.annotations.tally import Dropped, Tally

_MOVING = {"box": ("xtl", "ytl", "xbr", "ybr"), "ellipse": ("cx", "cy", "rx", "ry")}
_PLACE = (
    "points",
    "xtl",
    "ytl",
    "xbr",
    "ybr",
    "cx",
    "cy",
    "rx",
    "ry",
    "rotation",
    "rle",
    "left",
    "top",
    "width",
    "height",
)
_NAMES = ("frame_{:06d}.PNG", "frame_{:06d}.png", "frame_{:06d}.jpg", "frame_{:06d}.jpeg")
_MOST = 1_000_000  # frames; more is a fault of the file


def frames(content: Element, file: Path, folders: ImageFolders, tally: Tally) -> list[Picture]:
    """One picture for each frame of the task. Its image is called frame_000000.png (or .PNG, .jpg), as CVAT calls it.

    Raises:
      DataError: the file does not say which frames there are, or no frame has an image.
    """
    tasks = content.findall("meta/job") or content.findall("meta//task")
    if len(tasks) != 1:
        raise DataError(f"{file}: tracks of {len(tasks)} tasks, whose frame numbers clash; export one task at a time.")
    numbers = _numbers(tasks[0], file)
    size = _size(tasks[0])
    listed: dict[int, list[Shape]] = defaultdict(list)
    for place, track in enumerate(content.iterfind("track")):
        name = f"track {track.get('id', place)}"
        try:
            _spread(track, name, numbers, listed, tally)
        except Dropped as drop:
            tally.drop(drop.kind, f"{name}: {drop.example}")
    pictures, missing = [], []
    for frame in numbers:
        path = _image(frame, folders, tally)
        if path is None:
            missing.append(frame)
            continue
        draw = functools.partial(draw_shapes, listed[frame], folders.name_of(path))
        pictures.append(Picture(folders.name_of(path), path, draw, size, upright=True))
    if not pictures:
        raise DataError(
            f"{file}: a video of {len(numbers)} frames, none of which is there as frame_{numbers[0]:06d}.png; export it"
            " with its images, or take the frames out of the video under such names (--images DIR)."
        )
    for frame in missing:
        tally.drop("image missing on disk", f"frame_{frame:06d}.png")
    return pictures


def _numbers(task: Element, file: Path) -> range:
    """The frames of a task: from its start to its stop, by its step."""
    try:
        start, stop = int(task.findtext("start_frame", "")), int(task.findtext("stop_frame", ""))
        step = int(re.fullmatch(r"(?:step=(\d+))?", (task.findtext("frame_filter") or "").strip()).group(1) or 1)
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file}: <meta> lacks start_frame, stop_frame, or a frame_filter like step=3.") from error
    if start < 0 or stop < start or step < 1 or stop - start > _MOST:
        raise DataError(f"{file}: frames {start} to {stop} by {step} are no range of frames.")
    return range(start, stop + 1, step)


def _size(task: Element) -> Size | None:
    height, width = task.findtext("original_size/height", ""), task.findtext("original_size/width", "")
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else None


def _image(frame: int, folders: ImageFolders, tally: Tally) -> Path | None:
    for name in _NAMES:
        try:
            return folders.find(name.format(frame), tally)
        except Dropped:
            continue
    return None


def _spread(track: Element, name: str, numbers: range, listed: dict[int, list[Shape]], tally: Tally) -> None:
    """Puts the shapes of a track into their frames."""
    label = track.get("label", "")
    shapes = [element for element in track if element.tag != "track"]
    if not shapes:
        raise Dropped("track without shapes", repr(label)[:60])
    shapes.sort(key=lambda element: number(element, "frame"))
    for element, following in zip(shapes, [*shapes[1:], None]):
        frame = int(number(element, "frame"))
        if element.get("outside") == "1":
            continue
        if frame not in numbers:
            tally.drop("shape of a frame that the task does not have", f"{name}, frame {frame}")
        for at, shape in _until(element, frame, following, name, numbers, tally):
            if at in numbers:
                listed[at].append(Shape(shape, label, f"{name}, frame {at} ({shape.tag})"))


def _until(
    element: Element, frame: int, following: Element | None, name: str, numbers: range, tally: Tally
) -> Iterator[tuple[int, Element]]:
    """The shape of a frame, and those of the frames up to the next shape that the file has."""
    yield frame, element
    end = numbers.stop if following is None else int(number(following, "frame"))
    gap = [at for at in numbers if frame < at < end]
    for at in gap:
        if following is None or _same(element, following):
            yield at, element
        elif element.tag == following.tag and element.tag in _MOVING:
            yield at, _between(element, following, (at - frame) / (end - frame))
        else:
            tally.drop(
                "shape of a frame between keyframes (export with every frame)", f"{name}, frame {at} ({element.tag})"
            )


def _same(element: Element, following: Element) -> bool:
    return element.tag == following.tag and all(element.get(key) == following.get(key) for key in _PLACE)


def _between(element: Element, following: Element, share: float) -> Element:
    """The shape a share of the way from one box or ellipse to the next."""
    shape = Element(element.tag, dict(element.attrib))
    for key in _MOVING[element.tag]:
        start = number(element, key)
        shape.set(key, repr(start + (number(following, key) - start) * share))
    start = number(element, "rotation", 0.0)
    arc = (number(following, "rotation", 0.0) - start + 180) % 360 - 180
    shape.set("rotation", repr((start + arc * share) % 360))
    return shape
