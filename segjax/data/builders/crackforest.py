"""CrackForest: cracks in 480x320 photographs of roads.

Shi, Cui, Qi, Meng, Chen. Automatic road crack detection using random structured forests. IEEE Transactions on
Intelligent Transportation Systems 2016. Layout: `{train,test}/images/NNN.jpg`, `labels/NNN.png`; 1 (or 255) = crack.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.data.layout import Layout, find_splits, open_root, take_options


def layout(root: str | Path | None, options: Mapping[str, Any]) -> Layout:
    """Lists CrackForest; see the module's docstring for the folders expected under `root`."""
    chosen = take_options("crackforest", options, {"statistics": "auto"})
    path = open_root("crackforest", root)
    folders = {s: (path / s / "images", path / s / "labels", None) for s in ("train", "val", "test")}
    found = find_splits("crackforest", path, folders, "train/images/*.jpg with train/labels/*.png, and test")
    return Layout(
        name="crackforest",
        root=path,
        classes=("road", "crack"),
        palette=((90, 90, 90), (255, 80, 40)),
        values={0: 0, 1: 1, 255: 1},
        channels=3,
        statistics=chosen["statistics"],
        stated=frozenset((0, 1, 255)),
        **found._asdict(),
    )
