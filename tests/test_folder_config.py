"""configs/folder.py: each data set gets a config that can train, the user's values win, what is written is the run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from segjax.autoconfig.choice import YOURS, Chosen, adapted, config_file, lines
from segjax.autoconfig.machine import Machine
from segjax.autoconfig.work import work
from segjax.cli.main import main
from segjax.core.config import from_dict, load_config, to_dict
from segjax.core.config_file import config_function
from segjax.core.errors import ConfigError
from segjax.core.registry import create_model
from segjax.core.schema import DatasetInfo
from segjax.data.augment import make_train_transform
from segjax.data.fingerprint import Fingerprint
from tests.data.tiny_sets import make_folder

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "folder.py"
CPU = Machine("cpu", 1, 16 * 2**30, 160e9, 16 * 2**30)
GPU = Machine("gpu", 1, 80 * 2**30, 989e12, 128 * 2**30)
SMALL_GPU = Machine("gpu", 1, 2 * 2**30, 65e12, 16 * 2**30)
POD = Machine("tpu", 8, 16 * 2**30, 8 * 197e12, 100 * 2**30)
UNKNOWN = Machine("gpu", 1, None, None, None)


def _data(size=(256, 256), classes=2, channels=3, dtype="uint8", thinnest=20.0, shares=None, **splits) -> Fingerprint:
    splits = splits or {"train": 200, "val": 50}
    info = DatasetInfo(
        "folder",
        tuple(f"class {k}" for k in range(classes)),
        ((0, 0, 0),) * classes,
        channels,
        dtype,
        (0.0,) * channels,
        (1.0,) * channels,
    )
    split = "train" if "train" in splits else max(splits, key=splits.get)
    return Fingerprint(
        info=info,
        splits=splits,
        split=split,
        images=splits[split],
        largest=size,
        median=size,
        shares=tuple(shares or [1 / classes] * classes),
        void=0.0,
        widths=(thinnest,) * classes,
        looked_at=min(64, splits[split]),
    )


def _choose(data: Fingerprint, machine: Machine = CPU, **texts: str) -> Chosen:
    given = {key.replace("__", "."): text for key, text in texts.items()}
    config = load_config(str(CONFIG), given, adapting=True)
    return adapted(config_function(str(CONFIG), "adapt"), config, given, data, machine)


CASES = {
    "photographs": _data(),
    "sixteen-bit": _data(dtype="uint16", channels=1),
    "float-bands": _data(dtype="float32", channels=13, size=(120, 120)),
    "grey": _data(channels=1),
    "two-channels": _data(channels=2),
    "200-classes": _data(classes=200, size=(480, 640)),
    "one-class": _data(classes=1),
    "255-classes": _data(classes=255, size=(64, 64)),
    "one-image": _data(train=1),
    "four-images": _data(train=4),
    "a-million-images": _data(train=1_000_000, val=1000),
    "one-pixel": _data(size=(1, 1)),
    "below-the-stride": _data(size=(7, 9)),
    "odd": _data(size=(251, 131)),
    "wide": _data(size=(32, 9000)),
    "tall": _data(size=(9000, 20)),
    "huge": _data(size=(20_000, 30_000)),
    "thin": _data(thinnest=1.5),
    "no-border": _data(thinnest=None),
    "absent-classes": _data(classes=4, shares=[0.5, 0.5, 0.0, 0.0]),
    "rare-class": _data(classes=3, shares=[0.9, 0.0999, 0.0001]),
    "nothing-labelled": _data(classes=3, shares=[0.0, 0.0, 0.0]),
    "other-split-names": _data(mine=30, yours=5),
}
MACHINES = {"cpu": CPU, "gpu": GPU, "small-gpu": SMALL_GPU, "pod": POD, "unknown": UNKNOWN}
# Each data set on a CPU, and the extreme ones on every machine.
PAIRS = [(case, "cpu") for case in CASES]
PAIRS += [(case, machine) for case in ("one-image", "huge") for machine in MACHINES]
PAIRS += [("200-classes", "small-gpu")]


@pytest.mark.parametrize(("case", "machine"), dict.fromkeys(PAIRS))
def test_every_data_set_gets_a_config_that_can_train(case, machine, tmp_path):
    data, machine = CASES[case], MACHINES[machine]
    chosen = _choose(data, machine)
    config = chosen.config
    assert from_dict(to_dict(config)) == config
    network = create_model(
        config.model.name,
        num_classes=data.info.num_classes,
        in_channels=data.info.channels,
        dtype=jnp.dtype(config.train.dtype),
        **config.model.options,
    )
    crop, batch = config.data.crop_size, config.train.batch_size
    assert all(side % network.stride == 0 for side in crop)
    assert all(side < median + network.stride for side, median in zip(crop, data.median))
    assert batch % machine.devices == 0
    assert config.eval.window is None or all(side % network.stride == 0 for side in config.eval.window)
    assert 1 <= config.train.eval_every <= config.train.steps
    assert config.schedule.warmup_steps < config.train.steps
    if machine.memory is not None and machine.devices == 1:
        assert batch * work(network, crop).memory < machine.memory or min(crop) <= network.stride
    make_train_transform(config.augment, data.info, crop)  # refuses colours of what has none
    assert all("\n" not in line and why for line, why in zip(lines(chosen), chosen.reasons.values()))

    written = tmp_path / "config.py"
    written.write_text(config_file(chosen, "Chosen."))
    assert load_config(str(written)) == config


def test_a_cpu_is_done_within_minutes():
    for case, data in CASES.items():
        config = _choose(data).config
        network = create_model(config.model.name, data.info.num_classes, data.info.channels, **config.model.options)
        flops = config.train.steps * config.train.batch_size * work(network, config.data.crop_size).flops
        assert flops / CPU.flops < 15 * 60 or config.train.steps <= 100, case


@pytest.mark.parametrize(
    ("splits", "train", "scored", "final", "at_the_end"),
    [
        ({"train": 9, "val": 3}, "train", "val", None, False),
        ({"train": 9, "val": 3, "test": 2}, "train", "val", "test", False),
        ({"train": 9, "valid": 3}, "train", "valid", None, False),
        ({"train": 9, "test": 3}, "train", "test", None, True),
        ({"train": 10}, "train[:80%]", "train[80%:]", None, False),
        ({"train": 4}, "train", "train", None, False),
        ({"a": 9, "b": 4}, "a", "b", None, False),
    ],
)
def test_what_is_scored(splits, train, scored, final, at_the_end):
    config = _choose(_data(**splits)).config
    assert (config.data.train_split, config.eval.split, config.eval.final_split) == (train, scored, final)
    assert (config.train.eval_every == config.train.steps) == at_the_end


def test_a_given_share_leaves_the_rest_to_the_score():
    data = dataclasses.replace(_data(train=10), split="train[:60%]", images=6)
    assert _choose(data, data__train_split="train[:60%]").config.eval.split == "train[60%:]"
    joined = dataclasses.replace(_data(train=10, val=4, test=5), split="train+val", images=14)
    config = _choose(joined, data__train_split="train+val").config
    assert (config.data.train_split, config.eval.split, config.eval.final_split) == ("train+val", "test", None)
    assert config.train.eval_every == config.train.steps


def test_a_split_that_is_kept_whole_is_not_said_to_be_held_out():
    chosen = _choose(_data(train=10), data__train_split="train")
    assert (chosen.config.data.train_split, chosen.config.eval.split) == ("train", "train")
    assert "says nothing about new ones" in chosen.reasons["eval.split"]


def test_epochs_are_the_users_way_to_say_the_length():
    config = _choose(_data(train=200, val=9), train__epochs="3", train__batch_size="10").config
    assert (config.train.steps, config.train.epochs) == (None, 3)
    assert config.train.eval_every == 15
    assert config.schedule.warmup_steps == 3


def test_thin_regions_are_labelled_pixel_by_pixel():
    assert "patch" not in _choose(_data(thinnest=3.0)).config.model.options
    assert _choose(_data(thinnest=30.0)).config.model.options["patch"] == 2
    assert "patch" not in _choose(_data(thinnest=30.0), GPU).config.model.options


def test_loss_follows_the_classes():
    assert _choose(_data(shares=[0.95, 0.05])).config.loss.name == "cross_entropy_dice"
    assert _choose(_data(classes=200)).config.loss.name == "cross_entropy"
    assert _choose(_data(classes=3, shares=[0.6, 0.399, 0.001])).config.loss.class_weights == "enet_log"
    assert _choose(_data(classes=3, shares=[0.6, 0.3, 0.1])).config.loss.class_weights == "none"


def test_fewer_images_are_varied_more_and_larger_memory_takes_larger_batches():
    few, many = (_choose(_data(train=n, val=9)).config.augment for n in (20, 20_000))
    assert few.scale[1] > many.scale[1]
    assert few.brightness > many.brightness
    sizes = [_choose(_data(size=(512, 512)), machine).config.train.batch_size for machine in (SMALL_GPU, GPU)]
    assert sizes[0] < sizes[1]


def test_the_users_values_win_and_the_rules_build_on_them():
    free = _choose(_data(size=(512, 512)), GPU)
    chosen = _choose(
        _data(size=(512, 512)),
        GPU,
        data__crop_size="(64,96)",
        model__options__base_channels="8",
        train__dtype="float32",
    )
    config, reasons = chosen.config, chosen.reasons
    assert config.data.crop_size == (64, 96)
    assert config.train.dtype == "float32"
    assert config.model.options == free.config.model.options | {"base_channels": 8}
    assert reasons["data.crop_size"] == reasons["train.dtype"] == YOURS
    assert reasons["model.options"].startswith(YOURS)
    assert config.train.steps != free.config.train.steps  # a smaller crop is more crops
    other = _choose(_data(), model__name="linknet/resnet18").config
    assert (other.model.name, other.model.options) == ("linknet/resnet18", {})
    assert all(side % 32 == 0 for side in other.data.crop_size)
    assert _choose(_data(), model__name="pspnet/test").config.model.options == {}


@pytest.mark.parametrize("name", ["plan_deeplabv3plus-resnet50_v5e-16x16", "too_large_fcdensenet103_v5e-2x2"])
def test_memory_against_the_compiler_of_tpus(name):
    """A rule takes half the memory by this estimate, so the estimate must not fall below half of what is taken."""
    record = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    network = create_model(record["model"], num_classes=19, dtype=jnp.dtype(record["dtype"]))
    taken = record["memory"]["parts"].get("temporaries") or record["memory"]["without_recomputation"]
    taken /= record["batch_size"] / record["topology"]["devices"]
    assert 0.8 < work(network, tuple(record["crop_size"])).memory / taken < 4


def test_what_the_user_set_is_written_too(tmp_path):
    chosen = _choose(
        _data(),
        data__root='a "b" \\ c',
        data__options="{'values': {255: 1}, 'classes': ('a', 'b')}",
        optim__multipliers="{'up.*': 0.5}",
        loss__class_weights="(1, 2.5)",
        eval__crf__enabled="True",
        init__skip="('head',)",
        optim__clip_norm="1.0",
        seed="3",
    )
    written = tmp_path / "config.py"
    written.write_text(config_file(chosen, "Chosen."))
    assert load_config(str(written)) == chosen.config
    assert "            # yours\n            class_weights=(1.0, 2.5),\n" in written.read_text()


def test_adapt_that_breaks_the_rules_is_one_line():
    config = load_config(str(CONFIG), adapting=True)
    with pytest.raises(ConfigError, match=r"config.data.crop: no such key"):
        adapted(lambda *_: (item for item in [("data.crop", 3, "")]), config, {}, _data(), CPU)
    with pytest.raises(ConfigError, match="is not a number"):
        adapted(lambda *_: (item for item in [("train.ema", "x", "")]), config, {}, _data(), CPU)
    with pytest.raises(ConfigError, match=r"yield \(key, value, reason\)"):
        adapted(lambda *_: None, config, {}, _data(), CPU)


@pytest.mark.parametrize("argv", [["plan", "--topology=cpu:1"], ["sweep"], ["benchmark", "train", "--classes=2"]])
def test_other_verbs_ask_for_the_config_that_train_writes(argv, capsys):
    assert main([*argv, f"--config={CONFIG}"]) == 2
    err = capsys.readouterr().err
    assert "WORKDIR/config.py" in err
    assert err.count("\n") == 1


def test_quickstart_on_a_folder_points_here(capsys, tmp_path):
    quickstart = CONFIG.parent / "quickstart.py"
    assert main(["train", f"--config={quickstart}", "--config.data.name=folder", f"--config.data.root={tmp_path}"]) == 2
    err = capsys.readouterr().err
    assert "--config=configs/folder.py" in err
    assert err.count("\n") == 1
    options = {"data.name": "folder", "data.options": "{}"}
    assert load_config(str(quickstart), options).data.name == "folder"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(folder, workdir) of random pictures without a val split, with a cache of their own."""
    base = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGJAX_CACHE", str(base / "cache"))
        root = make_folder(base / "photos", splits={"train": 10}, size=(20, 24), classes=3)
        yield root, base / "runs" / "mine"


SMALL = ["--config.train.steps=2", "--config.model.options.base_channels=2", "--config.log.tensorboard=False"]


def test_train_prints_writes_and_trains_and_the_written_config_gives_the_same_run(place, capsys, tmp_path):
    root, workdir = place
    command = ["train", f"--config={CONFIG}", f"--config.data.root={root}", f"--workdir={workdir}", *SMALL]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "data: 10 train; 3 channels of uint8, median 20x24" in shown
    assert "train.steps = 2" in shown
    assert YOURS in shown
    config = load_config(str(workdir / "config.py"))
    assert (config.train.steps, config.data.train_split, config.eval.split) == (2, "train[:80%]", "train[80%:]")
    first = json.loads((workdir / "results.json").read_text())
    assert first["split"] == "train[80%:]"

    # The written config is a plain one: the same metrics from it, the same checkpoint.
    again = tmp_path / "again"
    assert main(["train", f"--config={workdir / 'config.py'}", f"--workdir={again}"]) == 0
    assert json.loads((again / "results.json").read_text())["metrics"] == first["metrics"]
    assert not (again / "config.py").exists()
    capsys.readouterr()

    # A second start is refused before anything is written over; with --resume it takes the config that stands there.
    text = (workdir / "config.py").read_text()
    assert main([*command, "--config.seed=1"]) == 2
    assert "already holds a checkpoint of step 2" in capsys.readouterr().err
    (workdir / "config.py").write_text(text.replace('name="folder"', 'name="folder"', 1) + "# edited\n")
    assert main([*command, "--resume"]) == 0
    assert "as chosen before" in capsys.readouterr().out
    assert (workdir / "config.py").read_text().endswith("# edited\n")
    (workdir / "config.py").unlink()
    assert main([*command, "--resume"]) == 2
    assert "give the config that it was made with" in capsys.readouterr().err
