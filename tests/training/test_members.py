"""Members of one program against their separate runs."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from toy_run import INFO, Stream, ToyNet, ToyTask, bitwise_equal, config, make_batch, transform

from segjax.core.config import from_dict, to_dict
from segjax.core.errors import ConfigError
from segjax.training.checkpoint import committed_steps, read_checkpoint
from segjax.training.loop import train
from segjax.training.members import Member, train_members
from segjax.training.state import init_variables
from segjax.training.writer import read_metrics

RATES = (0.05, 0.01)
DECAYS = (0.0, 0.1)
STEPS = 6


class SeededStream(Stream):
    """Batches that depend on a seed too, as a member's sample order does."""

    def __init__(self, seed: int, kill_at: int | None = None):
        super().__init__()
        self.seed, self.kill_at = seed, kill_at

    def __next__(self):
        if self.position == self.kill_at:
            raise KeyboardInterrupt
        batch = make_batch(1000 * self.seed + self.position, self.batch_size, self.size)
        self.position += 1
        return batch


def _settings(seed: int, rate: float, decay: float):
    return from_dict(
        to_dict(
            config(
                name=f"{seed}-{rate}-{decay}",
                seed=seed,
                optim={"learning_rate": rate, "weight_decay": decay},
                train={"ema": 0.9, "eval_every": 3, "steps": STEPS, "log_every": 2},
            )
        )
    )


GRID = list(itertools.product((0, 7), RATES, DECAYS))
ARGUMENTS = dict(zip(("seed", "optim.learning_rate", "optim.weight_decay"), map(list, zip(*GRID))))


def _variables(seed: int, dtype=np.float64):
    variables = init_variables(ToyNet(dropout=0.3), seed, (8, 8, 3))
    return jax.tree.map(lambda x: np.asarray(x, dtype), variables)


def _scores(state):
    return {"miou": float(np.sum(np.abs(np.asarray(state.params["head"]["kernel"]))))}


def _together(root: Path, *, grid=GRID, kill_at: int | None = None, dtype=np.float64):
    members = [
        Member(
            _settings(*one), ToyNet(dropout=0.3), ToyTask(), SeededStream(one[0], kill_at), root / str(i),
            _variables(one[0], dtype),
        )
        for i, one in enumerate(grid)
    ]  # fmt: skip
    return train_members(
        members,
        arguments=dict(zip(ARGUMENTS, map(list, zip(*grid)))),
        build=lambda values: (ToyNet(dropout=0.3), ToyTask()),
        transform=transform,
        info=INFO,
        steps=STEPS,
        evaluate=lambda position, state: _scores(state),
    )


def _alone(root: Path, one) -> object:
    return train(
        _settings(*one),
        model=ToyNet(dropout=0.3),
        task=ToyTask(),
        transform=transform,
        batches=SeededStream(one[0]),
        info=INFO,
        steps=STEPS,
        workdir=root,
        evaluate=_scores,
        variables=_variables(one[0]),
    ).state


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Eight members: two seeds, two learning rates, two weight decays (one of them none at all)."""
    root = tmp_path_factory.mktemp("together")
    with jax.enable_x64(True):
        return root, _together(root).states


FEW, REST = (0, 7), (1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("position", [*FEW, *(pytest.param(one, marks=pytest.mark.slow) for one in REST)])
def test_members_equal_their_separate_runs(position: int, together, tmp_path: Path) -> None:
    root, states = together
    assert len(states) == 8
    with jax.enable_x64(True):
        alone = _alone(tmp_path, GRID[position])
    ours, theirs = jax.tree.leaves(states[position]), jax.tree.leaves(alone)
    assert any(leaf.dtype == np.float64 for leaf in ours)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-9)
    assert jax.tree.structure(states[position]) == jax.tree.structure(alone)
    for kind, keys in (("train", ("step", "loss", "learning_rate")), ("eval", ("step", "miou"))):
        logs = [read_metrics(folder / "metrics.jsonl", kind) for folder in (root / str(position), tmp_path)]
        a, b = ([[record[key] for key in keys] for record in log] for log in logs)
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_members_differ_in_what_they_are_told_to(together) -> None:
    kernels = [np.asarray(state.params["head"]["kernel"]) for state in together[1]]
    for a, b in itertools.combinations(kernels, 2):
        assert np.abs(a - b).max() > 1e-4


def test_killed_between_two_members_checkpoints_and_resumed_bitwise(together, tmp_path: Path) -> None:
    root, states = together
    with jax.enable_x64(True):
        with pytest.raises(KeyboardInterrupt):
            _together(tmp_path, kill_at=4)
        assert committed_steps(tmp_path / "0/checkpoints") == [3]
        # As if the kill had come while the last save was on its way: one member has a step more than the others.
        shutil.copytree(root / "2/checkpoints/6", tmp_path / "2/checkpoints/6")
        resumed = _together(tmp_path)
    assert resumed.step == STEPS
    assert bitwise_equal(resumed.states, states)
    steps = [record["step"] for record in read_metrics(tmp_path / "2/metrics.jsonl", "train")]
    assert steps == [2, 3, 4, 6]


def test_a_member_goes_on_alone(together, tmp_path: Path) -> None:
    """A member's folder is a run's: `segjax train --resume` and `segjax evaluate` read it."""
    root, states = together
    shutil.copytree(root / "1", tmp_path / "1", ignore=shutil.ignore_patterns("6"))
    with jax.enable_x64(True):
        state = train(
            _settings(*GRID[1]), model=ToyNet(dropout=0.3), task=ToyTask(), transform=transform,
            batches=SeededStream(0), info=INFO, steps=STEPS, workdir=tmp_path / "1", evaluate=_scores, resume=True,
            variables=_variables(0),
        ).state  # fmt: skip
        for a, b in zip(jax.tree.leaves(states[1]), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-9)
        assert read_checkpoint(tmp_path / "1", "last").step == STEPS


@pytest.mark.slow
def test_a_diverging_member_is_left_behind(tmp_path: Path, capsys) -> None:
    grid = [(0, 0.05, 0.0), (0, 1e38, 0.0)]
    result = _together(tmp_path, grid=grid, dtype=np.float32)
    assert list(result.failed) == [1]
    assert "non-finite at step" in result.failed[1]
    assert committed_steps(tmp_path / "0/checkpoints") == [3, 6]
    assert committed_steps(tmp_path / "1/checkpoints") == []
    assert np.isfinite(np.asarray(result.states[0].params["head"]["kernel"])).all()


def test_a_mesh_of_rows_is_refused(tmp_path: Path) -> None:
    settings = from_dict({**to_dict(_settings(*GRID[0])), "parallel": {"spatial": 2}})
    member = Member(settings, ToyNet(), ToyTask(), SeededStream(0), tmp_path)
    with pytest.raises(ConfigError, match="spatial=1"):
        train_members([member], arguments={}, build=lambda values: None, transform=None, info=INFO, steps=1)
