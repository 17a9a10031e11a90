"""ISBI 2012: neuronal membranes in 512x512 electron-microscope slices.

Arganda-Carreras et al. Crowdsourcing the creation of image segmentation algorithms for connectomics. Frontiers in
Neuroanatomy 2015. Layout: `{train,val,test}/{images,labels}/NN.png`; label 0 = membrane, 1 = cell (or 255 = cell, as
the challenge's own files have it).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.data.layout import Layout, find_splits, open_root, take_options


def layout(root: str | Path | None, options: Mapping[str, Any]) -> Layout:
    """Lists ISBI 2012; see the module's docstring for the folders expected under `root`."""
    chosen = take_options("isbi2012", options, {"statistics": "auto"})
    path = open_root("isbi2012", root)
    folders = {s: (path / s / "images", path / s / "labels", None) for s in ("train", "val", "test")}
    found = find_splits("isbi2012", path, folders, "train/images/*.png with train/labels/*.png, likewise val")
    return Layout(
        name="isbi2012",
        root=path,
        classes=("membrane", "cell"),
        palette=((30, 30, 30), (230, 230, 230)),
        values={0: 0, 1: 1, 255: 1},
        channels=1,
        statistics=chosen["statistics"],
        stated=frozenset((0, 1, 255)),
        **found._asdict(),
    )
