"""`segjax convert`: a weight file becomes a checkpoint that inference and `config.init` take."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import segjax
from segjax.cli.main import main
from segjax.core.config import Init
from segjax.training.pretrained import pretrained

FIELDS = dict(base_channels=2, depth=1)
OPTIONS = [f"--config.model.options.{key}={value}" for key, value in FIELDS.items()]


@pytest.fixture
def file(tmp_path):
    """The state dict of milesial's U-Net at base width 2 and depth 1."""
    rng = np.random.default_rng(0)
    tensors = {"up1.up.weight": (4, 2, 2, 2), "up1.up.bias": (2,), "outc.conv.weight": (4, 2, 1, 1),
               "outc.conv.bias": (4,)}  # fmt: skip
    for name, given, width in (("inc", 3, 2), ("down1.maxpool_conv.1", 2, 4), ("up1.conv", 4, 2)):
        for i, channels in ((0, given), (3, width)):
            tensors[f"{name}.double_conv.{i}.weight"] = (width, channels, 3, 3)
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"{name}.double_conv.{i + 1}.{leaf}"] = (width,)
    np.savez(tmp_path / "w.npz", **{name: rng.uniform(0.5, 1, shape) for name, shape in tensors.items()})
    return tmp_path / "w.npz"


def test_what_is_written_predicts_and_starts_a_run(tmp_path, file, capsys):
    out = str(tmp_path / "out")
    assert (
        main(["convert", "--from", str(file), "--model", "unet/same", "--out", out, "--num-classes", "4", *OPTIONS])
        == 0
    )
    assert "parameters from" in capsys.readouterr().out

    model = segjax.create_model("unet/same", 4, **FIELDS)
    variables = segjax.load_weights(model, file)
    predictor = segjax.Predictor.from_checkpoint(out)
    assert predictor.info.num_classes == 4
    jax.tree.map(np.testing.assert_array_equal, dict(predictor.variables), variables)
    assert predictor(np.zeros((8, 8, 3), np.uint8)).labels.shape == (8, 8)

    fresh = segjax.init_variables(model, 0, (16, 16, 3))
    jax.tree.map(np.testing.assert_array_equal, pretrained(Init(checkpoint=out), fresh), variables)


def test_errors_are_one_line(tmp_path, file, capsys):
    start = ["convert", "--from", str(file), "--model", "unet/same", "--out", str(tmp_path / "out"), *OPTIONS]
    for more, says in (([], "--num-classes is needed"), (["--num-classes", "5"], "other shapes: outc.conv.weight")):
        assert main([*start, *more]) == 2
        printed = capsys.readouterr().err
        assert says in printed
        assert printed.count("\n") == 1
    assert main([*start, "--num-classes", "5", "--reinit", "^logits/"]) == 0
