"""A run whose disk is full, limited, or gone: one line at the end, earlier checkpoints whole, and --resume goes on."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from segjax.core.cleanup import Cleanup
from segjax.core.errors import StorageError
from segjax.core.files import write_bytes
from segjax.training.checkpoint import committed_steps, damage
from segjax.training.writer import Writer, read_metrics
from tests.faults.processes import TOY, call, fill, one_line, small_disk


def _whole(workdir: Path) -> list[int]:
    """The run's checkpoints, all of which are whole."""
    steps = committed_steps(workdir / "checkpoints")
    assert [damage(workdir / f"checkpoints/{step}") for step in steps] == [None] * len(steps)
    return steps


def test_the_disk_fills_up_between_checkpoints(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        command = [*TOY, disk / "run", "60", "--every", "30"]
        line = one_line(call([*command, "--at", "31", "fill"]), "toy")
        assert "the log could not be written: No space left on device" in line
        assert "--resume" in line
        assert _whole(disk / "run") == [30]
        (disk / "filler").unlink()
        done = call([*command, "--resume"])
        assert (done.returncode, done.stderr) == (0, "")
        assert "resumed from step 30 of" in done.stdout
        assert _whole(disk / "run") == [30, 60]
        steps = [record["step"] for record in read_metrics(disk / "run/metrics.jsonl", "train")]
        assert steps == list(range(1, 61))


@pytest.mark.parametrize("size", ["100k", "330k"])
def test_the_disk_is_too_small_for_a_checkpoint(tmp_path: Path, size: str) -> None:
    with small_disk(tmp_path / "disk", size) as disk:
        line = one_line(call([*TOY, disk / "run", "9"]), "toy")
        assert "no space left on the device for a checkpoint" in line
        steps = _whole(disk / "run")
        assert ("there is no checkpoint yet" in line) == (steps == [])
        assert not list((disk / "run").rglob(".owner"))


@pytest.mark.parametrize("limit", [1_000, 40_000])
def test_a_limit_on_the_size_of_files(tmp_path: Path, limit: int) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    line = one_line(call([*TOY, tmp_path / "run", "9"], preexec_fn=limited), "toy")
    assert "File too large" in line
    steps = _whole(tmp_path / "run")  # whether the larger limit lets a checkpoint through depends on Orbax's files
    assert set(steps) <= ({4, 8} if limit > 1_000 else set())
    done = call([*TOY, tmp_path / "run", "9", "--resume"])
    assert (done.returncode, done.stderr) == (0, "")
    assert _whole(tmp_path / "run")[-1] == 9


def test_the_folder_is_removed(tmp_path: Path) -> None:
    line = one_line(call([*TOY, tmp_path / "run", "9", "--at", "6", "remove"]), "toy")
    assert "was removed" in line
    assert not (tmp_path / "run").exists()


def test_the_folder_is_moved_aside(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", tensorboard=False)
    writer.write(1, "train", {"loss": 1.0})
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(StorageError, match=r"metrics\.jsonl was removed or replaced while a run was writing to it"):
        writer.write(2, "train", {"loss": 1.0})
    writer.close()
    assert not (tmp_path / "run").exists()


def test_what_fails_on_the_way_out_hides_nothing() -> None:
    ended = []

    def fail() -> None:
        raise StorageError("second")

    def leave(error: Exception | None) -> None:
        with Cleanup() as cleanup:
            cleanup.callback(ended.append, "last")
            cleanup.callback(fail)
            if error is not None:
                raise error

    with pytest.raises(StorageError, match="first"):
        leave(StorageError("first"))
    with pytest.raises(StorageError, match="second"):
        leave(None)
    assert ended == ["last", "last"]


def test_a_full_disk_met_by_other_writers(tmp_path: Path) -> None:
    """Scores, reports and pictures go through `write_bytes`; a run's log through `Writer`."""
    with small_disk(tmp_path / "disk", "64k") as disk:
        (disk / "kept").write_bytes(b"before")
        with pytest.raises(StorageError, match=r"kept could not be written: No space left on device"):
            write_bytes(disk / "kept", bytes(100_000))
        assert (disk / "kept").read_bytes() == b"before"
        assert [path.name for path in disk.iterdir()] == ["kept"]
        writer = Writer(disk / "run", tensorboard=True)
        fill(disk / "filler")
        with pytest.raises(StorageError, match="the log could not be written: No space left on device"):
            writer.write(1, "train", {f"score {i}": 1.0 for i in range(1000)})
        with pytest.raises(StorageError, match="the log could not be written"):
            writer.close()
