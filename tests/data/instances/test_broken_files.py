"""COCO files broken at random: each is read, or told in one line of what is wrong; never more."""

from __future__ import annotations

import copy
import json
import random

import numpy as np
import pytest
from coco_sets import SIZE, make_coco
from PIL import Image

from segjax.core.errors import SegjaxError
from segjax.data.check import check

VALUES = [None, -1, 0, float("inf"), float("nan"), "x", [], {}, [[]], True, 10**30, [1, 2], "../../x", 3.5, "", [None]]


def places(value, path=()):
    """The paths of all values within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def broken(content, rng):
    content = copy.deepcopy(content)
    *parents, last = rng.choice(list(places(content)))
    owner = content
    for key in parents:
        owner = owner[key]
    if rng.random() < 0.2:
        del owner[last]
    else:
        owner[last] = copy.deepcopy(rng.choice(VALUES))
    return content


@pytest.mark.parametrize("kind", ["instance", "panoptic"])
def test_broken_at_random(tmp_path, kind: str) -> None:
    runs = {"size": list(SIZE), "counts": [5, 10, 585]}
    annotations = [
        {"bbox": [1, 1, 2, 2], "area": 3},
        {"segmentation": runs},
        {"segmentation": {**runs, "counts": "5:Yb0"}},
    ]
    root = make_coco(tmp_path / "set", annotations)
    content = json.loads((root / "instances_train.json").read_text())
    path = root / f"{'instances' if kind == 'instance' else 'panoptic'}_train.json"
    if kind == "panoptic":
        ids = np.zeros((*SIZE, 3), np.uint8)
        ids[:10], ids[10:15] = (2, 1, 0), (0, 0, 1)
        (root / "panoptic_train").mkdir()
        for image in (10, 20):
            Image.fromarray(ids).save(root / f"panoptic_train/{image}.png")
        segments = [{"id": 258, "category_id": 3, "bbox": [0, 0, 3, 3], "area": 5}, {"id": 65536, "category_id": 7}]
        content["annotations"] = [
            {"image_id": image, "file_name": f"{image}.png", "segments_info": segments} for image in (10, 20)
        ]
        content["categories"] = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 7, "name": "sky", "isthing": 0}]
    rng, wrong, texts = random.Random(0), 0, []
    for _ in range(150):
        path.write_text(json.dumps(broken(content, rng)))
        try:
            report = check("coco", root, {"annotations": kind})
        except SegjaxError as error:
            texts.append(str(error))
            wrong += 1
        else:
            texts += [problem.text for problem in report.problems]
            assert list(report.lines())
            wrong += bool(report.problems)
    assert wrong > 75
    assert not [text for text in texts if "\n" in text]


def test_run_lengths_of_a_huge_size_are_not_drawn(tmp_path) -> None:
    huge = {"size": [10**6, 10**6], "counts": [10**12]}
    problems = check("coco", make_coco(tmp_path / "set", [{"segmentation": huge}])).problems
    assert [problem.kind for problem in problems] == ["RLE of another size"]
