"""DRIVE: blood vessels in 565x584 retina photographs.

Staal, Abramoff, Niemeijer, Viergever, van Ginneken. Ridge-based vessel segmentation in color images of the retina.
IEEE Transactions on Medical Imaging 2004. Layout: `{train,test}/{images,labels,fov}/NN.png`; labels and field of view
are 0 and 1 (or 255). The published scores count pixels inside the field of view only, so those outside become void;
option `fov=False` keeps them as background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.core.errors import DataError
from segjax.data.layout import Layout, find_splits, open_root, take_options


def layout(root: str | Path | None, options: Mapping[str, Any]) -> Layout:
    """Lists DRIVE; see the module's docstring for the folders expected under `root`."""
    chosen = take_options("drive", options, {"fov": True, "statistics": "auto"})
    path = open_root("drive", root)
    folders = {s: (path / s / "images", path / s / "labels", path / s / "fov") for s in ("train", "val", "test")}
    found = find_splits("drive", path, folders, "train/{images,labels,fov}/*.png, likewise test")
    samples = [sample for split in found.splits.values() for sample in split]
    without = [sample for sample in samples if sample.region is None]
    if chosen["fov"] and without:
        raise DataError(
            f"{without[0].image}: no field-of-view mask in ../fov ({len(without)} images lack one);"
            " add them, or set data.options.fov=False to score the whole picture."
        )
    if not chosen["fov"]:
        without_regions = {
            split: tuple(dataclasses.replace(sample, region=None) for sample in samples)
            for split, samples in found.splits.items()
        }
        found = found._replace(splits=without_regions)
    return Layout(
        name="drive",
        root=path,
        classes=("background", "vessel"),
        palette=((40, 20, 20), (240, 200, 80)),
        values={0: 0, 1: 1, 255: 1},
        channels=3,
        statistics=chosen["statistics"],
        stated=frozenset((0, 1, 255)),
        **found._asdict(),
    )
