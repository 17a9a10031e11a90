"""Clouds: those drawn (`clouds`), those read (`shapenet_part`), and the files that hold them."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from segjax.core.config import from_dict
from segjax.core.errors import ConfigError, DataError
from segjax.core.schema import CATEGORY, NAME, PART, POINTS
from segjax.data.cloud_file import count_points, read_cloud, with_channels
from segjax.data.clouds import CATEGORIES, CloudSource, dataset_info
from segjax.data.clouds.surfaces import Ball, Box, Cone, Handle
from segjax.data.dataset import open_dataset
from segjax.data.pipeline import eval_batches, train_batches
from segjax.data.shapenet_part import open_splits
from segjax.tasks import make_task
from tests.data.tiny_sets import shared

SURFACES = [
    Box((0.3, 0.0, -1.0), (1.0, 0.2, 0.5)),
    Cone((0.0, 0.5, 0.0), 0.7, 0.4, 0.1),
    Cone((0.0, 0.5, 0.0), 0.7, 0.3, 0.3),
    Cone((0.0, 0.0, 0.0), 0.0, 0.0, 0.5),
    Ball((0.0, 1.0, 0.0), 0.5),
    Handle((0.5, 0.5, 0.0), 0.4, 0.1),
]


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: type(surface).__name__)
def test_points_of_a_surface_are_uniform_and_its_normals_are_unit(surface):
    """By the divergence theorem's sides: the mean of a coordinate over points is that over fine, weighted patches."""
    points, normals = surface.draw(np.random.default_rng(0), 40_000)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-9)
    nodes, weights = patches(surface)
    assert surface.area == pytest.approx(weights.sum(), rel=1e-3)
    for power in (1, 2):
        expected = (nodes**power * weights[:, None]).sum(0) / weights.sum()
        spread = (points**power).std(axis=0) / math.sqrt(len(points))
        assert (np.abs((points**power).mean(axis=0) - expected) < 5 * spread + 1e-3).all()


def patches(surface, count: int = 400):
    """Middles and areas of small patches: float64 [n, 3] and [n]."""
    u, v = (np.arange(count) + 0.5) / count, (np.arange(count) + 0.5) / count
    u, v = (x.ravel() for x in np.meshgrid(u, v))
    if isinstance(surface, Box):
        found = []
        for axis in range(3):
            for side in (-0.5, 0.5):
                unit = np.insert(np.stack([u, v], -1) - 0.5, axis, side, axis=1)
                area = np.prod(np.delete(surface.size, axis)) / len(u)
                place = np.add(surface.centre, (0, surface.size[1] / 2, 0)) + unit * surface.size
                found.append((place, np.full(len(u), area)))
        return tuple(np.concatenate(arrays) for arrays in zip(*found))
    angle = 2 * math.pi * u
    if isinstance(surface, Cone):
        radius = surface.lower + v * (surface.upper - surface.lower)
        place = np.stack([radius * np.cos(angle), v * surface.height, radius * np.sin(angle)], -1)
        area = radius * math.hypot(surface.height, surface.upper - surface.lower)
    elif isinstance(surface, Ball):
        polar = math.pi * v
        flat = np.sin(polar)
        place = surface.radius * np.stack([flat * np.cos(angle), np.cos(polar), flat * np.sin(angle)], -1)
        area = surface.radius**2 * flat * math.pi
    else:
        along = math.pi * (v - 0.5)
        out = surface.bow + surface.thickness * np.cos(angle)
        place = np.stack([out * np.cos(along), out * np.sin(along), surface.thickness * np.sin(angle)], -1)
        area = out * surface.thickness * math.pi
    return np.add(surface.centre, place), area * 2 * math.pi / len(u)


def test_a_cloud_depends_on_seed_and_index_alone():
    source = CloudSource("train", points=256)
    again = pickle.loads(pickle.dumps(source))
    for i in (5, 0):
        for key, value in source[i].items():
            np.testing.assert_array_equal(value, again[i][key])
    assert not np.array_equal(source[0][POINTS][:64], CloudSource("train", points=256, seed=1)[0][POINTS][:64])
    assert not np.array_equal(source[0][POINTS][:64], CloudSource("val", points=256)[0][POINTS][:64])
    with pytest.raises(IndexError):
        source[len(source)]


def test_clouds_are_what_their_info_says():
    info, source = dataset_info(300, normals=True), CloudSource("train", points=300, normals=True)
    assert info.num_classes == sum(len(parts) for parts, _ in CATEGORIES.values())
    seen = set()
    for i in range(8):
        cloud = source[i]
        name, parts = info.categories[cloud[CATEGORY]]
        assert cloud[NAME].endswith(name)
        assert set(cloud[PART]) == set(parts)
        assert 225 <= len(cloud[POINTS]) <= info.max_points
        assert cloud[POINTS].dtype == np.float32
        places, normals = cloud[POINTS][:, :3], cloud[POINTS][:, 3:]
        np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-5)
        assert np.linalg.norm(places, axis=1).max() == pytest.approx(1, rel=1e-5)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-5)
        seen.add(name)
    assert seen == set(CATEGORIES)
    assert {source[0][CATEGORY] for source in [CloudSource("val", points=64, categories=("mug",))]} == {2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(points=10), "64 points or more"),
        (dict(categories=("mugs",)), "no category 'mugs'. Did you mean 'mug'"),
        (dict(count=0), "count of 1 or more"),
    ],
)
def test_impossible_clouds_are_one_line(options, words):
    with pytest.raises(DataError, match=words):
        open_dataset(from_dict({"data": {"name": "clouds", "options": options}}).data)


def test_batches_of_clouds_are_padded_and_repeat():
    config = from_dict({"task": "points", "data": {"name": "clouds", "options": dict(points=128, count=6)}})
    dataset = open_dataset(config.data)
    task = make_task(config, dataset.info)
    fields = task.fields(dataset.info, None, True)
    given = dict(batch_size=4, collate=task.collate, threads=1)
    first, second = (train_batches(dataset.split("train"), fields, seed=1, **given) for _ in range(2))
    for one, other in ((next(first), next(second)) for _ in range(2)):
        assert set(one) == {"points", "point_valid", "part", "category", "valid"}
        assert one["points"].shape == (4, 128, 3)
        assert (one["part"][~one["point_valid"]] == 255).all()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    first.close(), second.close()
    batches = list(eval_batches(dataset.split("train+train"), fields, **given))
    assert [list(batch["valid"]) for batch in batches] == [[True] * 4] * 3
    assert not any("size" in batch for batch in batches)
    assert len(dataset.split("train[:50%]")) == 3


def write_benchmark(root):
    """The release's layout with three shapes."""
    (root / "train_test_split").mkdir(parents=True)
    (root / "synsetoffset2category.txt").write_text("Airplane\t02691156\nCap\t02954340\n")
    rng = np.random.default_rng(0)
    for synset, name, parts in (("02691156", "aa", 0), ("02954340", "bb", 6), ("02954340", "cc", 6)):
        (root / synset).mkdir(exist_ok=True)
        rows = np.concatenate([rng.normal(size=(20, 6)), parts + rng.integers(0, 2, (20, 1))], axis=1)
        np.savetxt(root / synset / f"{name}.txt", rows, fmt="%.6f")
    for split, names in (("train", ["02954340/bb", "02691156/aa"]), ("test", ["02954340/cc"])):
        listing = root / "train_test_split" / f"shuffled_{split}_file_list.json"
        listing.write_text(json.dumps([f"shape_data/{name}" for name in names]))
    return root


def test_the_benchmarks_release_is_read(tmp_path):
    info, splits = open_splits(write_benchmark(tmp_path), {"normals": True})
    assert {split: len(source) for split, source in splits.items()} == {"train": 2, "test": 1}
    assert (info.channels, info.num_classes, info.max_points, len(info.categories)) == (6, 50, 3000, 16)
    plane, cap = splits["train"][0], splits["train"][1]
    assert (plane[CATEGORY], plane[NAME], plane[POINTS].shape) == (0, "02691156/aa", (20, 6))
    assert (cap[CATEGORY], set(cap[PART])) == (2, {6, 7})
    assert info.categories[2] == ("cap", (6, 7))
    rows = np.loadtxt(tmp_path / "02954340" / "bb.txt")
    np.testing.assert_allclose(cap[POINTS], rows[:, :6].astype(np.float32))
    _, caps = open_splits(tmp_path, {"categories": ("cap",)})
    assert [len(source) for source in caps.values()] == [1, 1]
    assert caps["train"][0][POINTS].shape == (20, 3)


def test_caps_are_read_from_a_plain_folder():
    info, splits = open_splits(shared("shapenet_part_caps"), {})
    assert {split: len(source) for split, source in splits.items()} == {"val": 5, "test": 8}
    shapes = [source[i] for source in splits.values() for i in range(len(source))]
    assert {shape[CATEGORY] for shape in shapes} == {2}
    assert max(len(shape[POINTS]) for shape in shapes) == info.max_points == 2792
    assert splits["val"][0][NAME] == "val_00"


@pytest.mark.parametrize(
    ("part", "words"), [([6, 7, 9], "part 9 is none of a cap's"), ([60, 60, 60], "part 60 is none of 0..49")]
)
def test_labels_of_another_category_are_named(part, words, tmp_path):
    np.savez(tmp_path / "train_a.npz", pos=np.ones((3, 3)), label=np.array(part))
    _, splits = open_splits(tmp_path, {})
    with pytest.raises(DataError, match=words) as error:
        splits["train"][0]
    assert "train_a.npz" in str(error.value)


def test_too_many_points_and_an_empty_folder_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match="SPLIT_NAME"):
        open_splits(tmp_path, {})
    np.savez(tmp_path / "val_a.npz", pos=np.ones((9, 3)), label=np.full(9, 6))
    _, splits = open_splits(tmp_path, {"max_points": 5})
    with pytest.raises(DataError, match="max_points to at least"):
        splits["val"][0]
    with pytest.raises(ConfigError, match="Did you mean 'cap'"):
        open_splits(tmp_path, {"categories": "caps"})
    _, splits = open_splits(tmp_path, {"normals": True})
    with pytest.raises(DataError, match="normals are missing"):
        splits["val"][0]


def test_files_of_clouds(tmp_path):
    points = np.random.default_rng(0).normal(size=(5, 6))
    np.savez(tmp_path / "a.npz", points=points[:, :3], normals=points[:, 3:], part=np.arange(5), category="mug")
    cloud = read_cloud(tmp_path / "a.npz")
    np.testing.assert_allclose(cloud.points, points.astype(np.float32))
    np.testing.assert_array_equal(cloud.part, np.arange(5))
    assert (cloud.category, count_points(tmp_path / "a.npz")) == ("mug", 5)
    assert with_channels(cloud, 3, "a").shape == (5, 3)
    np.savetxt(tmp_path / "a.txt", points[:, :3])
    cloud = read_cloud(tmp_path / "a.txt")
    assert (cloud.points.shape, cloud.part, cloud.category) == ((5, 3), None, None)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: p.write_text("1 2 3\n4 5\n") and p.rename(p.with_suffix(".txt")), "not a cloud"),
        (lambda p: p.write_text("1 2 3 4\n") and p.rename(p.with_suffix(".txt")), "lines of 4 numbers"),
        (lambda p: p.write_text("") or p.rename(p.with_suffix(".txt")), "no point"),
        (lambda p: p.write_bytes(b"PK\3\4rubbish") and p, "not a cloud"),
        (lambda p: save(p, xyz=np.ones((3, 3))), "no array pos or points among xyz"),
        (lambda p: save(p, pos=np.ones((3, 2))), r"shape \[3, 2\]"),
        (lambda p: save(p, pos=np.ones((3, 3)), normal=np.ones((2, 3))), "normals"),
        (lambda p: save(p, pos=np.ones((3, 3)), label=np.ones(2, int)), "a whole number for each point"),
        (lambda p: save(p, pos=np.full((3, 3), np.inf)), "not finite"),
        (lambda p: save(p, pos=np.array([[None]])), "not a cloud"),
        (lambda p: p.with_suffix(".ply"), "npz and .txt"),
        (lambda p: p, "No such file"),
    ],
)
def test_bad_files_are_one_line_with_their_name(write, words, tmp_path):
    path = write(tmp_path / "bad.npz")
    with pytest.raises(DataError, match=words) as error:
        read_cloud(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
