"""What networks are fed: declared by every map, chosen without a guess, and kept whole on the way to the network."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import segjax
from segjax.convert import input_of
from segjax.convert.class_lists import CLASS_LISTS
from segjax.convert.inputs import Input, choose_input, imagenet
from segjax.convert.mapping import list_maps
from segjax.convert.presets import PRESETS, find_preset
from segjax.core.errors import WeightsError
from segjax.core.schema import DatasetInfo, Resize
from segjax.data.augment import normalize
from segjax.data.builders import camvid
from segjax.metrics.confusion import VOIDS

SHARED = Path(__file__).parents[3] / "shared"


@pytest.mark.parametrize("name", list_maps())
def test_every_map_says_what_its_networks_are_fed(name):
    declared = importlib.import_module(f"segjax.convert.maps.{name}").INPUT
    entries = [] if declared is None else [declared] if isinstance(declared, Input) else list(declared.values())
    assert len(entries) != 1 or isinstance(declared, Input), "a table of one is no choice"
    for entry in entries:
        assert entry.source
        assert len(entry.mean) == len(entry.std) == 3
        assert min(entry.std) > 0
        DatasetInfo("any", ("a",), ((0, 0, 0),), **entry.fields())


def test_what_differs_is_asked_for():
    table = {"a": imagenet("x"), "b": Input((0.0,) * 3, (255.0,) * 3)}
    assert choose_input(table, "some", "b").std == (255.0,) * 3
    assert choose_input(table["a"], "some") is table["a"]
    assert choose_input(None, "some", "imagenet").channel_order == "rgb"
    for declared, name, says in (
        (table, None, r"depends on the file \(a, b\)"),
        (None, None, "published nowhere"),
        (table, "c", "'c' of the map some is unknown"),
    ):
        with pytest.raises(WeightsError, match=says):
            choose_input(declared, "some", name)


def test_the_authors_arithmetic():
    """ESPNet: standardised, then divided by 255, in BGR. 4uiiurz1's: albumentations' own, then by 255 again."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    bgr = pixels[..., ::-1].astype(np.float64)
    espnet = (bgr - [110.33139, 108.40919, 105.03353]) / [72.125206, 72.68849, 69.902596] / 255
    unetpp = (bgr / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225] / 255
    for name, key, expected in (("espnet", "camvid", espnet), ("unetpp", None, unetpp)):
        fed = choose_input(importlib.import_module(f"segjax.convert.maps.{name}").INPUT, name, key)
        found = normalize(jnp.asarray(pixels), fed.mean, fed.std, fed.channel_order)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_input_of_a_file(tmp_path):
    tensors = {"up1.up.weight": np.zeros((4, 2, 2, 2)), "outc.conv.weight": np.zeros((2, 2, 1, 1))}
    np.savez(tmp_path / "w.npz", **tensors)
    model = segjax.create_model("unet/same", 2, base_channels=2, depth=1)
    assert input_of(model, tmp_path / "w.npz", "whole").resize is None
    assert input_of(model, tmp_path / "w.npz", "half").resize == Resize(factor=0.5, method="bicubic", antialias=True)
    with pytest.raises(WeightsError, match=r"depends on the file \(half, whole\); name one") as error:
        input_of(model, tmp_path / "w.npz")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_whole(name):
    preset = find_preset(name, None)
    info = preset.info(name)
    assert preset.void in VOIDS
    assert info.void_class is None or info.classes[info.void_class] == "unlabelled"
    assert segjax.create_model(preset.model, info.num_classes).num_classes == len(preset.classes)
    with pytest.raises(WeightsError, match="not of fcn"):
        find_preset(name, "fcn/8s")


def test_class_lists_are_the_data_sets():
    """CamVid's as our builder names them; the others as the label maps beside the checkout have them."""
    assert tuple(name for name, *_ in CLASS_LISTS["camvid"]) == camvid.CLASSES
    for name, file in (("voc", "voc2012"), ("cityscapes", "cityscapes"), ("ade", "ade20k_150")):
        path = SHARED / "label_maps" / f"{file}.json"
        if not path.exists():
            pytest.skip(f"{path} is absent")
        listed = sorted((c for c in json.loads(path.read_text())["classes"] if c["train"] is not None),
                        key=lambda c: (c["train"], c["id"]))  # fmt: skip
        by_train = {c["train"]: (c["name"].strip(), *c["colour"]) for c in reversed(listed)}
        assert CLASS_LISTS[name] == tuple(by_train[i] for i in range(len(by_train)))
