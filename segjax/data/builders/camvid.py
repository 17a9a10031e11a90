"""CamVid: 11 classes and void, 480x360 frames of five drives.

Brostow, Fauqueur, Cipolla. Semantic object classes in video: a high-definition ground truth database. Pattern
Recognition Letters 2009. The split and the 11 classes are SegNet's (Badrinarayanan et al., arXiv:1511.00561).
Layout: `{train,val,test}/NAME.jpg|png`, `{train,val,test}annot/NAME.png`, values 0..10 and 11 = void.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.core.schema import IGNORE
from segjax.data import palettes
from segjax.data.layout import Layout, class_values, find_splits, open_root, take_options

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)


def layout(root: str | Path | None, options: Mapping[str, Any]) -> Layout:
    """Lists CamVid; see the module's docstring for the folders expected under `root`."""
    chosen = take_options("camvid", options, {"statistics": "auto"})
    path = open_root("camvid", root)
    folders = {split: (path / split, path / f"{split}annot", None) for split in ("train", "val", "test")}
    found = find_splits("camvid", path, folders, "train/*.jpg with trainannot/*.png, likewise val and test")
    return Layout(
        name="camvid",
        root=path,
        classes=CLASSES,
        palette=palettes.CAMVID,
        values=class_values(11, {11: IGNORE}),
        channels=3,
        statistics=chosen["statistics"],
        stated=frozenset((11,)),
        **found._asdict(),
    )
