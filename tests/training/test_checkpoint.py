from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from toy_run import INFO, ToyNet, bitwise_equal, config

from segjax.core.config import to_dict
from segjax.core.errors import CheckpointError, StorageError
from segjax.core.schema import DatasetInfo
from segjax.parallel.mesh import make_mesh
from segjax.training.checkpoint import Checkpointer, committed_steps, damage, read_checkpoint
from segjax.training.state import abstract_state, init_state, init_variables

TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def state(mesh):
    return init_state(init_variables(ToyNet(), 0, (8, 8, 3)), TX, mesh, ema=True)


@pytest.fixture(scope="module")
def template(mesh):
    return abstract_state(init_variables(ToyNet(), 0, (8, 8, 3)), TX, mesh, ema=True)


def _open(workdir: Path, *, resume: bool = True, info: DatasetInfo = INFO, **parts) -> Checkpointer:
    return Checkpointer(workdir, config=to_dict(config(**parts)), info=info, best="miou", resume=resume)


def _shifted(state, by: float):
    return jax.tree.map(lambda x: x + np.asarray(by, x.dtype), state)


@pytest.fixture(scope="module")
def written(tmp_path_factory, state):
    """Steps 1 to 4, the second scored best; tests copy it."""
    workdir = tmp_path_factory.mktemp("run")
    checkpointer = _open(workdir, resume=False)
    for step, score in enumerate((0.3, 0.9, 0.5, 0.4), 1):
        scores = {"miou": score, "per_class_iou": [score, float("nan")]}
        checkpointer.save(step, _shifted(state, step), iterator=b"\x00at %d" % step, metrics=scores)
    checkpointer.close()
    return workdir


@pytest.fixture
def workdir(written, tmp_path):
    shutil.copytree(written, tmp_path / "run")
    return tmp_path / "run"


def _largest(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def test_best_and_the_last_two_are_kept(written: Path) -> None:
    assert committed_steps(written / "checkpoints") == [2, 3, 4]


def test_restores_state_iterator_and_scores_exactly(written: Path, state, template) -> None:
    for which, step in (("last", 4), ("best", 2), (3, 3)):
        restored = _open(written).restore(which, template)
        assert (restored.step, restored.iterator) == (step, b"\x00at %d" % step)
        assert bitwise_equal(restored.state, _shifted(state, step))
        assert restored.metrics["miou"] == {2: 0.9, 3: 0.5, 4: 0.4}[step]
        assert jax.tree.structure(restored.state) == jax.tree.structure(state)


def test_reading_for_inference_takes_the_average_and_no_optimiser(workdir: Path, state) -> None:
    shutil.rmtree(workdir / "checkpoints/2/optimizer")
    manifest = workdir / "checkpoints/2/manifest.json"
    kept = {k: v for k, v in json.loads(manifest.read_text()).items() if not k.startswith("optimizer/")}
    manifest.write_text(json.dumps(kept))
    saved = read_checkpoint(workdir)
    assert saved.step == 2
    assert saved.info == INFO
    assert saved.config == json.loads(json.dumps(to_dict(config())))
    assert bitwise_equal(saved.variables, _shifted(state, 2).eval_variables)
    assert read_checkpoint(workdir / "checkpoints", "last").step == 4


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "manifest", "empty folder", "text in the manifest"])
def test_damage_falls_back_and_says_so(workdir: Path, state, template, caplog, harm: str) -> None:
    folder = workdir / "checkpoints/4"
    victim = _largest(folder / "model")
    if harm == "flip":
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    elif harm == "cut":
        victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    elif harm == "missing":
        victim.unlink()
    elif harm == "manifest":
        (folder / "manifest.json").unlink()
    elif harm == "empty folder":
        shutil.rmtree(folder)
        folder.mkdir()
    else:
        (folder / "manifest.json").write_text("not json")
    assert read_checkpoint(workdir, "last").step == 3
    caplog.clear()
    checkpointer = _open(workdir)
    restored = checkpointer.restore("last", template)
    assert restored.step == 3
    assert bitwise_equal(restored.state, _shifted(state, 3))
    assert len(caplog.records) == 1
    assert "checkpoints/4 is damaged" in caplog.text
    assert "trying step 3" in caplog.text
    # The run can save step 4 anew, and what was damaged is kept aside.
    checkpointer.save(4, _shifted(state, 40), iterator=None, metrics={"miou": 0.1})
    checkpointer.close()
    assert bitwise_equal(_open(workdir).restore("last", template).state, _shifted(state, 40))
    assert (workdir / "checkpoints/damaged-4").is_dir()


def test_a_save_cut_off_by_a_kill_is_skipped(workdir: Path, template) -> None:
    (workdir / "checkpoints/9.orbax-checkpoint-tmp").mkdir()
    assert _open(workdir).restore("last", template).step == 4


def test_everything_damaged(workdir: Path, template) -> None:
    for step in (2, 3, 4):
        _largest(workdir / f"checkpoints/{step}/model").unlink()
    with pytest.raises(CheckpointError, match=r"no whole checkpoint; steps there: 2, 3, 4\."):
        read_checkpoint(workdir)
    assert _open(workdir).restore("last", template) is None


def test_another_config_is_refused_and_nothing_touched(written: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    with pytest.raises(CheckpointError, match=r"optim\.learning_rate is 0\.05 there and 0\.5 here; use --resume with"):
        _open(written, resume=True, optim={"learning_rate": 0.5})
    with pytest.raises(CheckpointError, match=r"model\.name is 'unet/small' there and 'enet' here.*another --workdir"):
        _open(written, resume=False, model={"name": "enet"})
    with pytest.raises(CheckpointError, match=r"model\.options\.depth is None there and 9 here"):
        _open(written, model={"options": {"depth": 9}})
    with pytest.raises(CheckpointError, match=r"the checkpoint has 2 classes, the config asks for 3"):
        _open(written, info=DatasetInfo("toy", ("a", "b", "c"), ((0, 0, 0),) * 3))
    with pytest.raises(CheckpointError, match=r"already holds a checkpoint of step 4; go on from it with --resume"):
        _open(written, resume=False)
    assert before == {path: path.stat().st_mtime_ns for path in written.rglob("*")}


def test_what_does_not_touch_the_result_may_change(written: Path) -> None:
    _open(written, data={"root": "/elsewhere", "threads": 9}, train={"steps": 100}, log={"tensorboard": True})


def test_leaves_must_agree(written: Path, mesh, template) -> None:
    def refused(net: ToyNet, tx, message: str, *, ema: bool = True) -> None:
        other = abstract_state(init_variables(net, 0, (8, 8, 3)), tx, mesh, ema=ema)
        with pytest.raises(CheckpointError, match=message):
            _open(written).restore("last", other)

    refused(ToyNet(features=6), TX, r"params/head/kernel has shape \[1, 1, 4, 2\] there and \[1, 1, 6, 2\] here")
    refused(ToyNet(norm=False), TX, r"norm/\w+ is left over there")
    refused(ToyNet(), TX, r"ema/\S+ is left over there", ema=False)
    refused(ToyNet(), optax.sgd(0.1, momentum=0.9), r"opt_state/\S+ is missing there")
    halved = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, np.float16, sharding=x.sharding), template.params)
    template = type(template)(template.step, halved, template.model_state, template.opt_state, template.ema)
    with pytest.raises(CheckpointError, match="has dtype float32 there and float16 here"):
        _open(written).restore("last", template)


def test_steps_by_name(written: Path) -> None:
    assert [read_checkpoint(written, which).step for which in ("best", "last", 3, "3")] == [2, 4, 3, 3]
    with pytest.raises(CheckpointError, match=r"no whole checkpoint of step 7; steps there: 2, 3, 4\."):
        read_checkpoint(written, "7")
    with pytest.raises(CheckpointError, match="checkpoint 'newest': neither best, last nor the number of a step"):
        read_checkpoint(written, "newest")


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder; give the --workdir"):
        read_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        read_checkpoint(tmp_path)


def test_an_unknown_best_metric_is_named(tmp_path: Path, state) -> None:
    with pytest.raises(CheckpointError, match=r"no metric 'miou'; the evaluation gives accuracy, dice\."):
        _open(tmp_path).save(1, state, iterator=None, metrics={"dice": 1.0, "accuracy": 0.5})
    assert committed_steps(tmp_path / "checkpoints") == []


def test_steps_that_were_not_scored_do_not_hide_the_best(tmp_path: Path, state) -> None:
    checkpointer = _open(tmp_path, resume=False)
    for step, scores in enumerate((None, {"miou": 0.2}, None, {"miou": float("nan")}, None, None), 1):
        checkpointer.save(step, state, iterator=None, metrics=scores)
    checkpointer.close()
    assert committed_steps(tmp_path / "checkpoints") == [2, 5, 6]
    assert read_checkpoint(tmp_path, "best").step == 2


def test_too_little_space_is_seen_before_writing(workdir: Path, state, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(StorageError, match=r"no space left on the device .*; the last good checkpoint is step 4: free"):
        _open(workdir).save(5, state, iterator=None)
    assert committed_steps(workdir / "checkpoints") == [2, 3, 4]


def test_a_disk_that_fills_up_while_saving(workdir: Path, state, template, monkeypatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpointer = _open(workdir)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.handlers.JsonCheckpointHandler, "async_save", full)
        with pytest.raises(StorageError, match=r"no space left on the device .*the last good checkpoint is step 4"):
            _save_and_wait(checkpointer, 5, state)
    assert _open(workdir).restore("last", template).step == 4


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's writer threads, as they die
def test_a_really_full_disk(tmp_path: Path, state, template, monkeypatch) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(tmp_path)], capture_output=True)
    if mount.returncode:
        pytest.skip("this machine allows no tmpfs mount")
    try:
        checkpointer = _open(tmp_path, resume=False)
        checkpointer.save(1, state, iterator=None)
        checkpointer.wait()
        # Free space is looked at before a save; make it full only after that look, as another process would.
        monkeypatch.setattr(checkpointer, "_check_space", lambda state: _fill(tmp_path / "filler"))
        with pytest.raises(StorageError, match="the last good checkpoint is step 1: free some space"):
            _save_and_wait(checkpointer, 2, state)
        assert damage(tmp_path / "checkpoints/1") is None
        (tmp_path / "filler").unlink()
        assert _open(tmp_path).restore("last", template).step == 1
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def _save_and_wait(checkpointer: Checkpointer, step: int, state) -> None:
    """The disk may fill up while the call lasts or behind it."""
    checkpointer.save(step, state, iterator=None)
    checkpointer.wait()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
