from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data import scenes
from segjax.data.scenes import CLASSES, STREET_COUNT, THINGS, SceneSource, dataset_info, render

STYLES = ("street", "cells")


@pytest.fixture(scope="module")
def sample():
    """Scenes of both styles at a quarter of the default area."""
    return [render(i, seed=7, height=64, width=80, style=style) for style in STYLES for i in range(24)]


def _digest(style: str) -> str:
    code = (
        "import hashlib; from segjax.data.scenes import render; "
        f"s = render(5, seed=3, height=33, width=47, style={style!r}, frame=2); "
        "print(hashlib.sha256(b''.join(s[k].tobytes() for k in sorted(s))).hexdigest())"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_same_bytes_in_other_processes():
    assert _digest("mixed") == _digest("mixed")


@pytest.mark.parametrize("style", STYLES)
def test_same_arguments_same_bytes_whatever_came_between(style):
    first = render(5, seed=3, height=33, width=47, style=style, frame=2)
    render(6, seed=3, height=40, width=40, style=style)
    again = render(5, seed=3, height=33, width=47, style=style, frame=2)
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key], err_msg=key)


@pytest.mark.parametrize("style", STYLES)
def test_other_index_or_seed_is_another_scene(style):
    base = render(0, seed=0, height=32, width=32, style=style)
    for index, seed in ((1, 0), (0, 1)):
        other = render(index, seed=seed, height=32, width=32, style=style)
        assert np.mean(base["label"] != other["label"]) > 0.02
        assert np.abs(base["image"].astype(int) - other["image"]).mean() > 5


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(16, 16), (37, 91), (130, 65), (16, 200)])
def test_shapes_and_types_at_any_size(style, size):
    scene = render(4, height=size[0], width=size[1], style=style)
    expected = {
        "image": ((*size, 3), np.uint8),
        "label": (size, np.uint8),
        "instance": (size, np.uint16),
        "panoptic": (size, np.int32),
        "depth": (size, np.float32),
        "flow": ((*size, 2), np.float32),
    }
    assert {k: (v.shape, v.dtype.type) for k, v in scene.items()} == expected
    assert np.isfinite(scene["flow"]).all()
    assert np.isfinite(scene["depth"]).all()
    assert (scene["depth"] > 0).all()


def test_annotations_agree(sample):
    things = np.array(sorted(THINGS))
    for scene in sample:
        label, instance = scene["label"], scene["instance"]
        assert ((label < len(CLASSES)) | (label == IGNORE)).all()
        np.testing.assert_array_equal(instance > 0, np.isin(label, things))
        np.testing.assert_array_equal(scene["panoptic"] // 1000, label)
        np.testing.assert_array_equal(scene["panoptic"] % 1000, instance)


def test_street_things_have_one_class_and_cells_have_parts(sample):
    for scene in sample[:24]:
        for number in np.unique(scene["instance"])[1:]:
            assert len(np.unique(scene["label"][scene["instance"] == number])) == 1
    parts = [len(np.unique(s["label"][s["instance"] == n])) for s in sample[24:] for n in np.unique(s["instance"])[1:]]
    assert max(parts) == 4


def test_every_class_has_its_share(sample):
    for group, ids in ((sample[:24], range(STREET_COUNT)), (sample[24:], range(STREET_COUNT, len(CLASSES)))):
        labels = np.stack([s["label"] for s in group])
        share = np.bincount(labels.ravel(), minlength=256) / labels.size
        for i in ids:
            assert share[i] > 0.004, CLASSES[i]
        assert 0 < share[IGNORE] < 0.08
        assert share[list(ids)].sum() + share[IGNORE] == pytest.approx(1.0)


def test_painting_order_follows_depth(sample):
    """Nothing lies behind the sky; a cell lies in one layer, above the medium."""
    for scene in sample[:24]:
        depth, label = scene["depth"], scene["label"]
        assert (depth[label == scenes.CLASSES.index("sky")] == depth.max()).all()
        assert (depth[label != scenes.CLASSES.index("sky")] < 1000).all()
    for scene in sample[24:]:
        instance, depth = scene["instance"], scene["depth"]
        for number in np.unique(instance)[1:]:
            own = depth[instance == number]
            assert np.ptp(own) < 1.0, "a cell lies in one layer"
        assert depth[scene["label"] == CLASSES.index("medium")].min() > depth[instance > 0].max()


def test_nothing_is_seen_through_the_ground():
    """The ground's depth at a row follows from the camera alone; whatever is drawn there stands nearer."""
    from segjax.data.scenes.street import camera_of

    for index in range(8):
        scene = render(index, seed=5, height=64, width=80)
        camera = camera_of(index, seed=5, height=64, width=80)
        below = camera.up < -0.03
        ground = camera.position[1] / -camera.up[below, None]
        seen = scene["depth"][below]
        assert (seen <= ground * 1.0001).all()
        flat = np.isin(scene["label"][below], [CLASSES.index("road"), CLASSES.index("pavement")])
        np.testing.assert_allclose(seen[flat], np.broadcast_to(ground, seen.shape)[flat], rtol=1e-5)
        assert (
            seen[scene["instance"][below] > 0] < np.broadcast_to(ground, seen.shape)[scene["instance"][below] > 0]
        ).all()


def test_nearer_layer_hides_farther_one_whatever_the_order():
    from segjax.data.scenes.layers import Canvas

    results = []
    for order in ((0, 1), (1, 0)):
        canvas = Canvas(4, 6)
        boxes = [((0, 4, 0, 4), 5.0, 8, 1), ((0, 4, 2, 6), 3.0, 9, 2)]
        for which in order:
            box, depth, label, instance = boxes[which]
            canvas.paint(box, np.ones((4, 4), np.float32), np.float32([0.2 * label] * 3), depth, label, instance)
        results.append(canvas)
    for canvas in results:
        assert canvas.label[0].tolist() == [8, 8, 9, 9, 9, 9]
        assert canvas.instance[0].tolist() == [1, 1, 2, 2, 2, 2]
        assert canvas.depth[0].tolist() == [5, 5, 3, 3, 3, 3]
    np.testing.assert_allclose(results[0].rgb, results[1].rgb)


@pytest.mark.parametrize("style", STYLES)
def test_frames_move_and_keep_their_things(style):
    kept = moved = 0
    for index in range(6):
        a, b = (render(index, seed=1, height=64, width=80, style=style, frame=f) for f in (0, 1))
        assert (a["image"] != b["image"]).any()
        for number in np.unique(a["instance"])[1:]:
            here, there = a["instance"] == number, b["instance"] == number
            if here.sum() < 40:
                continue
            kept += there.any()
            moved += 1
            if there.any():
                assert set(np.unique(a["label"][here])) & set(np.unique(b["label"][there]))
    assert moved > 10
    assert kept >= 0.9 * moved


@pytest.mark.parametrize("style", STYLES)
def test_flow_points_at_the_same_thing_in_the_next_frame(style):
    """Pixels of things that follow the flow land on the same instance, but for edges and what gets hidden."""
    hits = total = still = 0
    for index in range(8):
        a, b = (render(index, seed=2, height=96, width=120, style=style, frame=f) for f in (0, 3))
        y, x = np.nonzero(a["instance"])
        flow = 3 * a["flow"][y, x] if style == "cells" else _follow(index, style, y, x)
        ty, tx = np.rint(y + flow[:, 1]).astype(int), np.rint(x + flow[:, 0]).astype(int)
        inside = (ty >= 0) & (ty < 96) & (tx >= 0) & (tx < 120)
        same = b["instance"][ty[inside], tx[inside]] == a["instance"][y[inside], x[inside]]
        stays = b["instance"][y[inside], x[inside]] == a["instance"][y[inside], x[inside]]
        hits, still, total = hits + same.sum(), still + stays.sum(), total + inside.sum()
    assert hits / total > 0.8
    assert hits > still


def _follow(index, style, y, x):
    """Displacement over frames 0 to 3, frame by frame."""
    at = np.stack([x, y], -1).astype(float)
    for frame in range(3):
        flow = render(index, seed=2, height=96, width=120, style=style, frame=frame)["flow"]
        rows = np.clip(np.rint(at[:, 1]), 0, 95).astype(int)
        columns = np.clip(np.rint(at[:, 0]), 0, 119).astype(int)
        at = at + flow[rows, columns]
    return at - np.stack([x, y], -1)


def test_zoom_is_the_middle_of_a_larger_picture():
    """Twice the zoom at half the size is the same projection: the horizon and the middle column stay where they are."""
    for style in STYLES:
        agreement = []
        for index in range(4):
            near = render(index, height=64, width=80, style=style, zoom=2.0)["label"]
            wide = render(index, height=128, width=160, style=style)["label"]
            tops = range(65) if style == "street" else [32]  # a street's horizon is its own
            agreement.append(max(np.mean(near == wide[top : top + 64, 40:120]) for top in tops))
        assert np.mean(agreement) > 0.95, (style, agreement)


def test_time_of_day_changes_the_light_only():
    day, night = (render(3, height=64, width=80, time=time) for time in ("day", "night"))
    np.testing.assert_array_equal(day["label"], night["label"])
    np.testing.assert_array_equal(day["depth"], night["depth"])
    assert day["image"].mean() > 1.3 * night["image"].mean()


def test_sources_are_disjoint_small_and_picklable():
    splits = {name: SceneSource(name, count=3, height=32, width=32) for name in ("train", "val", "test")}
    images = [splits[name][i]["image"].tobytes() for name in splits for i in range(3)]
    assert len(set(images)) == 9
    again = pickle.loads(pickle.dumps(splits["val"]))
    assert len(again) == 3
    assert len(pickle.dumps(again)) < 1000
    item = again[1]
    assert sorted(item) == ["image", "label", "name"]
    assert item["name"] == "val_000001"
    np.testing.assert_array_equal(item["label"], splits["val"][1]["label"])
    with pytest.raises(IndexError):
        again[3]
    assert (len(SceneSource("train")), len(SceneSource("val")), len(SceneSource("test"))) == (2000, 200, 200)


def test_mixed_alternates_and_info_covers_the_labels():
    kinds = [int(render(i, height=32, width=32, style="mixed")["label"].min()) >= STREET_COUNT for i in range(6)]
    assert kinds == [False, False, True, False, False, True]
    assert dataset_info("street").num_classes == STREET_COUNT
    assert dataset_info("mixed").classes == CLASSES
    assert len(set(dataset_info("mixed").palette)) == len(CLASSES)


@pytest.mark.parametrize("style", ["street", "cells", "mixed"])
def test_stated_statistics_are_the_measured_ones(style):
    pixels = np.concatenate(
        [render(1000 + i, height=48, width=60, style=style)["image"].reshape(-1, 3) for i in range(60)]
    )
    info = dataset_info(style)
    np.testing.assert_allclose(pixels.mean(0), info.mean, atol=16)
    np.testing.assert_allclose(pixels.std(0), info.std, atol=12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: render(0, style="stret"), "Did you mean 'street'"),
        (lambda: render(0, height=8), "8x160"),
        (lambda: render(0, time="nigth"), "Did you mean 'night'"),
        (lambda: render(0, zoom=0.5), "zoom from 1 to 8, got 0.5"),
        (lambda: SceneSource("val", zoom=9.0), "zoom from 1 to 8, got 9.0"),
        (lambda: render(-1), "-1"),
        (lambda: render(0, frame=-2), "-2"),
        (lambda: SceneSource("valid"), "Did you mean 'val'"),
        (lambda: SceneSource("val", count=0), "count"),
        (lambda: SceneSource("val", style="cell"), "Did you mean 'cells'"),
        (lambda: dataset_info("x"), "street"),
    ],
)
def test_bad_requests_are_one_line(call, words):
    with pytest.raises(DataError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
