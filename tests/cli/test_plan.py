"""`segjax plan` from end to end on simulated devices, and its one-line errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from segjax.cli.main import main
from segjax.planning.memory import PARTS

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.name = "tiny"
    config.model = dict(name="unet/test")
    config.data = dict(crop_size=(32, 32))
    config.augment = dict(flip=False)
    config.optim = dict(name="sgd", momentum=0.9)
    config.train = dict(steps=10, batch_size=16, ema=0.9)
    return config
"""


def _segjax(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "segjax.cli.main", *arguments], cwd=cwd, capture_output=True, text=True, timeout=500
    )


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """One real plan: (its folder, what it printed)."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "tiny.py").write_text(CONFIG)
    done = _segjax(
        *("plan", "--config=tiny.py", "--classes=3", "--topology=cpu:8", "--output=out"),
        *("--config.parallel.spatial=2", "--config.parallel.fsdp=2"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


@pytest.fixture(scope="module")
def record(planned):
    return json.loads((planned[0] / "plan.json").read_text())


def test_the_memory_tables_parts_add_up(record):
    memory = record["memory"]
    assert list(memory["parts"]) == list(PARTS)
    assert sum(memory["parts"].values()) == memory["needed"]
    compiler = memory["compiler"]
    total = (
        compiler["argument"] + compiler["output"] - compiler["alias"] + compiler["temp"] + compiler["generated_code"]
    )
    assert memory["needed"] == max(total, compiler.get("peak", 0))
    assert record["fits"]
    assert memory["headroom"] == memory["available"] - memory["needed"]


def test_parameters_and_optimiser_state_are_the_count_by_hand(record):
    from segjax import create_model, init_variables

    variables = init_variables(create_model("unet/test", num_classes=3), 0, (32, 32, 3))
    import jax

    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    statistics = sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"]))
    assert record["parameters"] == count
    parts = record["memory"]["parts"]
    assert parts["parameters"] == parts["average"] == 4 * count  # too small to be split by fsdp
    assert parts["optimiser_state"] == 4 * count + 4 + 4  # one momentum, the schedule's counter, the step
    assert parts["statistics"] == 4 * statistics
    # 4 images a device, half of their rows: uint8 pixels and labels; valid, height and width.
    assert parts["batch"] == 4 * 16 * 32 * (3 + 1) + 4 * (1 + 4 + 4)


def test_exchange_is_found_along_the_axes_that_must_talk(record):
    found = {(row["kind"], tuple(row["axes"])): row for row in record["collectives"]}
    assert ("collective-permute", ("spatial",)) in found  # halos
    assert ("all-reduce", ("data", "fsdp")) in found
    assert all(row["devices"] in (2, 4, 8) and row["bytes_sent"] > 0 for row in found.values())
    gradients = sum(row["bytes"] for (kind, axes), row in found.items() if kind == "all-reduce" and "data" in axes)
    assert gradients >= 4 * record["parameters"]


def test_operations_are_named_by_module(record):
    assert len(record["operations"]) == 10
    assert any(row["module"].startswith("UNet/") for row in record["operations"])
    shares = [row["share"] for row in record["operations"]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < record["operations_shown"] <= 1


def test_work_is_counted_and_a_floor_is_called_one(record):
    work, timing = record["work"], record["timing"]
    # Eight devices share the work; halos and what every device repeats are on top.
    assert 1 <= 8 * work["device_flops"] / work["model_flops"] < 2
    assert timing["one_sided"]
    assert timing["seconds"][0] == pytest.approx(work["device_flops"] / work["peak_flops"])


def test_the_text_tells_the_verdict_and_every_table(planned, record):
    shown = planned[1]
    assert re.search(r"fits: [\d.]+ MiB of [\d.]+ GiB a device, .* at 16 images a step \(4 a device\)", shown)
    for word in ("temporaries", "collective-permute", "estimator", "dearest operations", "advice", record["note"]):
        assert word in shown


def test_the_page_is_well_formed_and_self_contained(planned, record):
    page = (planned[0] / "plan.html").read_text()
    stack, tables = [], []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tables.extend([tag] if tag == "table" else [])
            assert not {"src", "href"} & {name for name, _ in attributes}
            if tag not in ("meta",):
                stack.append(tag)

        def handle_endtag(self, tag):
            assert stack.pop() == tag

    Checker().feed(page)
    assert not stack
    assert len(tables) == 4
    assert record["operations"][0]["module"] in page
    assert "http" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--topology=v5f:16x16"], "Did you mean"),
        (["--topology=cpu:1,cpu:2"], "plan one, or add --sweep"),
        (["--topology=cpu:1", "--config.parallel.spatial=3"], "spatial=3"),
        (["--topology=cpu:1", "--config.train.batch_size=3", "--config.train.accumulate=2"], "batch_size: 3"),
        (["--topology=cpu:1", "--config.train.dtype=bfloat16"], "set it to float32"),
        (["--topology=cpu:1", "--config.data.crop_size=(33, 32)"], "multiple of unet/test's stride"),
        (["--topology=cpu:1", "--image-size=big"], "no size such as 1024x2048"),
        (["--topology=cpu:8", "--sweep", "--batch=3"], "none of the batches 3"),
        (["--topology=cpu:8", "--sweep", "--batch=x"], "--batch: 'x'"),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(CONFIG)
    assert main(["plan", f"--config={tmp_path / 'tiny.py'}", "--classes=3", f"--output={tmp_path}", *arguments]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1


def test_a_data_set_that_is_not_there_can_be_planned_without(tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(CONFIG)
    arguments = ["--topology=cpu:1", "--config.data.name=camvid", "--config.data.root=nowhere"]
    assert main(["plan", f"--config={tmp_path / 'tiny.py'}", *arguments]) == 2
    assert "give --classes=K" in capsys.readouterr().err


@pytest.mark.slow
def test_a_batch_too_large_is_told_with_what_would_fit(tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG)
    common = ("plan", "--config=tiny.py", "--classes=3", "--topology=cpu:2", "--output=out")
    done = _segjax(*common, "--memory=0.002", "--config.train.batch_size=64", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    record = json.loads((tmp_path / "out" / "plan.json").read_text())
    found = record["would_fit"]
    assert not record["fits"]
    assert found["batch_size"] % 2 == 0
    assert found["compiled"][str(found["batch_size"])] <= record["memory"]["available"]
    assert f"config.train.batch_size={found['batch_size']} fits" in done.stdout
    assert "too much" in done.stdout
    # What is said to fit does.
    again = _segjax(*common, "--memory=0.002", f"--config.train.batch_size={found['batch_size']}", cwd=tmp_path)
    assert again.returncode == 0


@pytest.mark.slow
def test_a_sweep_ranks_what_it_planned(tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG)
    done = _segjax(
        *("plan", "--config=tiny.py", "--classes=3", "--topology=cpu:2", "--sweep", "--output=out"),
        *("--batch=2,8", "--spatial=1,2", "--fsdp=1"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    ranked = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert len(ranked) == 4
    assert all(row["fits"] for row in ranked)
    rates = [row["images_per_second_per_chip"][0] for row in ranked]
    assert rates == sorted(rates, reverse=True)
