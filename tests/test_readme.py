"""What the README shows must run."""

from __future__ import annotations

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from segjax.core.config import from_dict, to_dict
from segjax.core.schema import DatasetInfo
from tests.command_lines import parsed

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _commands() -> list[str]:
    lines = [part for block in _blocks("bash") for line in block.splitlines() for part in line.split("&&")]
    return [line.split("#")[0].strip() for line in lines if line.strip().startswith("segjax ")]


@pytest.mark.parametrize("command", _commands())
def test_commands_have_verbs_options_and_keys_that_exist(command):
    args = parsed(command)
    if getattr(args, "config", None):
        assert (ROOT / args.config.partition(":")[0]).is_file()


def test_python_example(tmp_path, monkeypatch):
    """In miniature: the tiny variant, a small image, a checkpoint of an untrained network."""
    from segjax import create_model, init_variables
    from segjax.parallel.mesh import make_mesh
    from segjax.training.checkpoint import Checkpointer
    from segjax.training.optim import make_optimizer
    from segjax.training.state import init_state

    config = from_dict({"model": {"name": "unet/test"}})
    info = DatasetInfo("toy", ("a", "b"), ((0, 0, 0), (255, 0, 0)))
    variables = init_variables(create_model("unet/test", num_classes=2), 0, (16, 16, 3))
    tx = make_optimizer(config.optim, lambda step: jnp.float32(0.1), variables["params"])
    workdir = tmp_path / "runs" / "quickstart"
    saver = Checkpointer(workdir, config=to_dict(config), info=info, best="miou", resume=False)
    saver.save(1, init_state(variables, tx, make_mesh(), ema=False), iterator={}, metrics={"miou": 0.5})
    saver.close()
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(tmp_path / "street.png")

    (example,) = _blocks("python")
    example = example.replace("deeplabv3plus/resnet50", "deeplabv3plus/test").replace(
        "(1, 352, 480, 3)", "(1, 32, 32, 3)"
    )
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["logits"].shape == (1, 32, 32, 11)
    assert names["prediction"].labels.shape == (20, 24)
    assert Image.open(tmp_path / "labels.png").size == (24, 20)
