"""The host pipeline: shards, resumption, windows, evaluation's padding."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from segjax.core.errors import CheckpointError, SizeError
from segjax.core.fields import labelled_image
from segjax.core.schema import IGNORE, IMAGE, LABEL, SIZE, VALID
from segjax.data.augment import window_size
from segjax.data.dataset import CachedSource, JoinedSource
from segjax.data.pipeline import eval_batches, eval_size, train_batch_shapes, train_batches


class Numbered:
    """Samples whose pixels all hold the sample's number; sizes differ when `ragged`."""

    def __init__(self, count, size=(6, 8), *, ragged=False):
        self.count, self.size, self.ragged = count, size, ragged
        self.largest = size
        self.reads = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        height, width = self.size
        if self.ragged:
            height, width = height - index % 3, width - index % 2
        return {
            IMAGE: np.full((height, width, 3), index, np.uint8),
            LABEL: np.full((height, width), index % 5, np.uint8),
            "name": f"n{index}",
        }


def _train(source, **changes):
    options = {"batch_size": 4, "seed": 7, "threads": 2, "prefetch": 4}
    window = window_size(changes.pop("crop_size", (4, 4)), changes.pop("scale", (1.0, 1.0)), source.largest)
    return train_batches(source, labelled_image(window), **{**options, **changes})


def _numbers(iterator, batches):
    return np.concatenate([next(iterator)[IMAGE][:, 0, 0, 0] for _ in range(batches)])


def test_batches_have_the_contract_form():
    batch = next(_train(Numbered(10)))
    assert batch[IMAGE].shape == (4, 4, 4, 3)
    assert batch[IMAGE].dtype == np.uint8
    assert batch[LABEL].shape == (4, 4, 4)
    assert batch[VALID].dtype == bool
    assert batch[VALID].all()
    np.testing.assert_array_equal(batch[SIZE], [[4, 4]] * 4)
    np.testing.assert_array_equal(batch[LABEL][:, 0, 0], batch[IMAGE][:, 0, 0, 0] % 5)


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 2.0)])
def test_the_shapes_told_without_images_are_those_of_the_batches(scale):
    batch = next(_train(Numbered(10), scale=scale))
    told = train_batch_shapes(labelled_image(window_size((4, 4), scale, (6, 8))), 4)
    assert {key: (v.shape, v.dtype) for key, v in told.items()} == {key: (v.shape, v.dtype) for key, v in batch.items()}


def test_every_epoch_shows_every_sample_in_another_order():
    numbers = _numbers(_train(Numbered(12)), 9).reshape(3, 12)
    for epoch in numbers:
        assert sorted(epoch) == list(range(12))
    assert not np.array_equal(numbers[0], numbers[1])
    assert not np.array_equal(numbers[1], numbers[2])
    np.testing.assert_array_equal(_numbers(_train(Numbered(12), shuffle=False), 3), range(12))


def test_order_depends_on_the_seed_only():
    numbers = _numbers(_train(Numbered(30)), 20)
    np.testing.assert_array_equal(numbers, _numbers(_train(Numbered(30), threads=5, prefetch=32), 20))
    assert not np.array_equal(numbers, _numbers(_train(Numbered(30), seed=8), 20))


@pytest.mark.parametrize("processes", [2, 4])
def test_the_processes_shares_make_the_single_process_batch_in_its_order(processes):
    source = Numbered(10, (9, 9), ragged=True)
    share = 4 // processes
    shards = [_train(source, rows=range(p * share, (p + 1) * share)) for p in range(processes)]
    whole = _train(source)
    for _ in range(6):  # more than two epochs of 10, which batches of 4 do not divide
        parts, expected = [next(shard) for shard in shards], next(whole)
        for key, value in expected.items():
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), value)


def test_shares_need_not_be_blocks():
    whole, odd = _train(Numbered(10)), _train(Numbered(10), rows=[1, 3])
    for _ in range(4):
        np.testing.assert_array_equal(next(odd)[IMAGE], next(whole)[IMAGE][[1, 3]])


def test_uneven_splits_keep_the_shards_even():
    shards = [_numbers(_train(Numbered(7), rows=rows), 7) for rows in ([0, 1], [2, 3])]
    counts = np.bincount(np.concatenate(shards), minlength=7)
    np.testing.assert_array_equal(counts, [4] * 7)  # 28 samples are four epochs of 7, whoever reads them


def test_another_number_of_processes_goes_on_where_the_first_stopped():
    source = Numbered(10, (9, 9), ragged=True)
    whole, halves = _train(source), [_train(source, rows=rows) for rows in ([0, 1], [2, 3])]
    for _ in range(3):
        next(whole)
        for half in halves:
            next(half)
    states = [json.loads(json.dumps(half.get_state())) for half in halves]
    assert states[0] == states[1] == whole.get_state()
    resumed = _train(source)
    resumed.set_state(states[0])
    for _ in range(4):
        np.testing.assert_array_equal(next(resumed)[IMAGE], next(whole)[IMAGE])


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resume_in_mid_epoch_is_exact(stop):
    source = Numbered(10, (9, 9), ragged=True)
    whole = _train(source)
    for _ in range(stop):
        next(whole)
    state = json.loads(json.dumps(whole.get_state()))
    resumed = _train(source, threads=1)
    resumed.set_state(state)
    for _ in range(6):
        expected, found = next(whole), next(resumed)
        assert expected.keys() == found.keys()
        for key in expected:
            np.testing.assert_array_equal(expected[key], found[key])


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 2}, {"crop_size": (3, 3)}])
def test_a_state_of_another_stream_is_refused(change):
    state = _train(Numbered(10)).get_state()
    with pytest.raises(CheckpointError, match=r"data iterator: \w+ was .* and is .* now"):
        _train(Numbered(10), **change).set_state(state)
    with pytest.raises(CheckpointError, match="samples was 10 in the checkpoint and is 11 now"):
        _train(Numbered(11)).set_state(state)


def test_windows_are_aligned_and_differ():
    class Ramp(Numbered):
        def __getitem__(self, index):
            label = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
            return {IMAGE: np.repeat(label[..., None], 3, -1), LABEL: label, "name": ""}

    iterator = _train(Ramp(5, (12, 10)), batch_size=40)
    batch = next(iterator)
    np.testing.assert_array_equal(batch[IMAGE][..., 0], batch[LABEL])
    corners = batch[LABEL][:, 0, 0]
    assert corners.min() >= 0
    assert {int(c) // 10 for c in corners} == set(range(9))  # every row offset occurs among 40
    assert {int(c) % 10 for c in corners} == set(range(7))
    assert not np.array_equal(corners, next(iterator)[LABEL][:, 0, 0])


def test_small_images_are_padded_and_say_so():
    batch = next(_train(Numbered(6, (6, 8), ragged=True), batch_size=6, crop_size=(6, 8)))
    for image, label, (height, width) in zip(batch[IMAGE], batch[LABEL], batch[SIZE]):
        number = image[0, 0, 0]
        assert (height, width) == (6 - number % 3, 8 - number % 2)
        assert (label[:height, :width] == number % 5).all()
        assert (label[height:] == IGNORE).all()
        assert (label[:, width:] == IGNORE).all()
        assert not image[height:].any()


def test_zoom_asks_for_larger_windows():
    assert next(_train(Numbered(6, (20, 20)), scale=(0.5, 2.0)))[IMAGE].shape == (4, 8, 8, 3)
    assert next(_train(Numbered(6, (6, 20)), scale=(0.5, 2.0)))[IMAGE].shape == (4, 6, 8, 3)


def _evaluate(source, **changes):
    fields = labelled_image(eval_size(source, changes.pop("size", None), changes.pop("multiple", 1)))
    return list(eval_batches(source, fields, **{"batch_size": 4, "threads": 2, **changes}))


def test_evaluation_reads_all_once_in_order():
    batches = _evaluate(Numbered(10, ragged=True), multiple=4)
    assert [batch[IMAGE].shape for batch in batches] == [(4, 8, 8, 3)] * 3
    names = [name for batch in batches for name in batch["name"]]
    assert names == [*(f"n{k}" for k in range(10)), "", ""]
    valid = np.concatenate([batch[VALID] for batch in batches])
    np.testing.assert_array_equal(valid, [True] * 10 + [False] * 2)
    sizes = np.concatenate([batch[SIZE] for batch in batches])
    np.testing.assert_array_equal(sizes[:10], [(6 - k % 3, 8 - k % 2) for k in range(10)])
    labels = np.concatenate([batch[LABEL] for batch in batches])
    assert (labels[10:] == IGNORE).all()
    for k in range(10):
        height, width = sizes[k]
        assert (labels[k, :height, :width] == k % 5).all()
        assert (labels[k] == IGNORE).sum() == 64 - height * width


def test_evaluation_shards_make_the_single_process_batches():
    whole = _evaluate(Numbered(5, ragged=True), batch_size=6)
    shards = [_evaluate(Numbered(5, ragged=True), batch_size=6, rows=rows) for rows in ([0, 3], [1, 2], [4, 5])]
    assert [len(shard) for shard in shards] == [1, 1, 1]
    names = [[name for batch in shard for name in batch["name"]] for shard in shards]
    assert names == [["n0", "n3"], ["n1", "n2"], ["n4", ""]]
    for rows, (batch,) in zip(([0, 3], [1, 2], [4, 5]), shards):
        for key in (IMAGE, LABEL, VALID, SIZE):
            np.testing.assert_array_equal(batch[key], whole[0][key][rows])
    lonely = _evaluate(Numbered(1), batch_size=4, rows=[2, 3])
    assert len(lonely) == 1
    assert not lonely[0][VALID].any()


def test_evaluation_refuses_larger_images():
    with pytest.raises(SizeError, match=r"n0: 6x8 is larger than config\.eval\.size 4x8"):
        _evaluate(Numbered(3), size=(4, 8))


def test_cached_source_reads_once_and_pickles_empty():
    inner = Numbered(3)
    source = CachedSource(inner)
    for _ in range(3):
        assert [source[k][IMAGE][0, 0, 0] for k in range(3)] == [0, 1, 2]
    assert inner.reads == 3
    copy = pickle.loads(pickle.dumps(source))
    assert copy[2]["name"] == "n2"
    assert copy._source.reads == 4


def test_joined_source():
    source = JoinedSource([Numbered(2), Numbered(3, (7, 5))])
    assert len(source) == 5
    assert source.largest == (7, 8)
    assert [source[k]["name"] for k in range(5)] == ["n0", "n1", "n0", "n1", "n2"]
    with pytest.raises(IndexError):
        source[5]


@pytest.mark.slow
def test_worker_processes_resume():
    source = Numbered(10, (9, 9))
    iterator = _train(source, workers=2)
    first = [next(iterator)[LABEL] for _ in range(2)]
    state = iterator.get_state()
    expected = next(iterator)[LABEL]
    iterator.close()
    resumed = _train(source, workers=2)
    resumed.set_state(state)
    np.testing.assert_array_equal(next(resumed)[LABEL], expected)
    resumed.close()
    threads = _train(source)
    np.testing.assert_array_equal(np.stack([next(threads)[LABEL] for _ in range(2)]), np.stack(first))
