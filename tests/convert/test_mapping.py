"""Filling a network from a reference's tensors: strict both ways, kernels in our order, what may start fresh."""

from __future__ import annotations

import functools
import re

import jax
import numpy as np
import pytest

import segjax
from segjax.convert.mapping import fill, list_maps, matched
from segjax.core.errors import ModelError, WeightsError
from segjax.core.paths import named_leaves
from segjax.core.registry import create_model
from segjax.models.base import init_shapes, layers

FIELDS = dict(base_channels=2, depth=1)


@functools.cache
def reference(channels=3, classes=5):
    """The state dict of milesial's U-Net at base width 2 and depth 1."""
    rng = np.random.default_rng(0)
    shapes = {}
    for name, given, width in (("inc", channels, 2), ("down1.maxpool_conv.1", 2, 4), ("up1.conv", 4, 2)):
        for i, channels_in in ((0, given), (3, width)):
            conv, norm = f"{name}.double_conv.{i}", f"{name}.double_conv.{i + 1}"
            shapes[f"{conv}.weight"] = (width, channels_in, 3, 3)
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{norm}.{leaf}"] = (width,)
            shapes[f"{norm}.num_batches_tracked"] = ()
    shapes |= {"up1.up.weight": (4, 2, 2, 2), "up1.up.bias": (2,)}
    shapes |= {"outc.conv.weight": (classes, 2, 1, 1), "outc.conv.bias": (classes,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def unet(classes=5, channels=3):
    return create_model("unet/same", classes, channels, **FIELDS)


def filled(tensors, model=None, **options):
    return fill(model or unet(), tensors, "file", **options)


def test_every_tensor_where_it_belongs():
    theirs = reference()
    ours = filled(theirs)
    params, stats = ours["params"], ours["batch_stats"]
    np.testing.assert_array_equal(
        params["down0_conv1"]["conv"]["kernel"], theirs["inc.double_conv.0.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(params["upconv0"]["kernel"], theirs["up1.up.weight"].transpose(2, 3, 0, 1))
    np.testing.assert_array_equal(params["up0_conv2"]["norm"]["scale"], theirs["up1.conv.double_conv.4.weight"])
    np.testing.assert_array_equal(stats["up0_conv2"]["norm"]["var"], theirs["up1.conv.double_conv.4.running_var"])
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), init_shapes(unet()))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), ours) == shapes


def test_a_tensor_too_many_and_one_too_few():
    tensors = dict(reference())
    tensors["extra.weight"] = np.zeros((3, 2), np.float32)
    del tensors["outc.conv.bias"]
    with pytest.raises(WeightsError) as error:
        filled(tensors)
    assert "1 tensors have no place: extra.weight [3, 2]" in str(error.value)
    assert "1 parameters are not filled: logits/bias [5]" in str(error.value)
    assert "\n" not in str(error.value)


def test_another_shape_and_a_fresh_head():
    with pytest.raises(WeightsError, match=re.escape("outc.conv.weight [7, 2, 1, 1] for logits/kernel [1, 1, 2, 5]")):
        filled(reference(classes=7))
    with pytest.raises(WeightsError, match=r"The file has 7 outputs, not 5\."):
        filled(reference(classes=7))
    ours = filled(reference(classes=7), reinit=["^logits/"], seed=3)
    fresh = segjax.init_variables(unet(), 3, (16, 16, 3))
    np.testing.assert_array_equal(ours["params"]["logits"]["kernel"], fresh["params"]["logits"]["kernel"])
    np.testing.assert_array_equal(ours["params"]["upconv0"]["bias"], reference(classes=7)["up1.up.bias"])


def test_reinit_that_finds_nothing_or_is_no_regex():
    for pattern, says in (("head", "finds nothing"), ("(", "no regular expression")):
        with pytest.raises(WeightsError, match=says):
            filled(reference(), reinit=[pattern])


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_other_image_channels(channels):
    with pytest.raises(WeightsError, match=re.escape("inc.double_conv.0.weight [2, 3, 3, 3]")):
        filled(reference(), unet(channels=channels))
    kernel = filled(reference(), unet(channels=channels), adapt_input=True)["params"]["down0_conv1"]["conv"]["kernel"]
    theirs = reference()["inc.double_conv.0.weight"].transpose(2, 3, 1, 0)
    assert kernel.shape == (3, 3, channels, 2)
    if channels != 4:  # a grey image gives what it gave
        np.testing.assert_allclose(kernel.sum(2), theirs.sum(2), rtol=1e-5)
    else:
        np.testing.assert_allclose(kernel, theirs[:, :, [0, 1, 2, 0]] * 3 / 4)


def test_an_unknown_map_submodule_or_network_without_a_map():
    with pytest.raises(ModelError, match="Did you mean 'unet'"):
        filled(reference(), map="unett")
    with pytest.raises(ModelError, match="no submodule 'encoder'"):
        filled(reference(), into="encoder")
    with pytest.raises(ModelError, match="num_classes"):
        segjax.load_weights("unet", "file")
    assert {"unet", "espnet", "enet", "erfnet"} <= set(list_maps())


@pytest.mark.parametrize("prefix", ["model.", "net.", "model.net.", "unet."])
def test_a_prefix_before_all_names_is_taken_off(prefix):
    tensors = {prefix + name: value for name, value in reference().items()}
    tensors["n_averaged"] = np.array(3)
    assert matched(unet(), tensors).prefix == prefix
    jax.tree.map(np.testing.assert_array_equal, filled(tensors), filled(reference()))


def test_names_that_fit_keep_their_common_part():
    """Half a network, all of whose names begin alike."""
    part = {name: value for name, value in reference().items() if name.startswith("inc.")}
    assert matched(unet(), part).prefix == ""


def test_a_prefix_before_most_names_is_named():
    tensors = {f"model.{name}": value for name, value in reference().items()} | {"loss.weight": np.ones(3)}
    with pytest.raises(
        WeightsError, match=r"34 of the 34 names with 'model\.' fit without it, but 1 names lack it \(loss\.weight\)"
    ):
        filled(tensors)


def test_an_encoders_file_with_its_name_before_everything():
    """`encoder.` before an encoder's names, into our submodule `encoder`."""
    model = create_model("deeplabv3plus/resnet18", 3)
    target = layers(model)["encoder"]
    theirs = {}
    for name, leaf in named_leaves(init_shapes(model)["params"]["encoder"]).items():
        found = re.fullmatch(r"stage(\d)_block(\d)/(conv(\d)|shortcut)/(conv|norm)/(\w+)", name)
        if found:
            base = f"layer{found[1]}.{int(found[2]) - 1}."
            kind = found[5] == "conv"
            inner = base + (f"{'conv' if kind else 'bn'}{found[4]}" if found[4] else f"downsample.{0 if kind else 1}")
        else:
            inner = "conv1" if "/conv/" in f"/{name}" else "bn1"
        theirs[f"encoder.{inner}.{'bias' if name.endswith('bias') else 'weight'}"] = leaf
    match = matched(model, theirs, into="encoder")
    assert (match.map, match.prefix) == ("resnet", "encoder.")
    assert all(match.rules.rename(name.rpartition(".")[0], target) for name in match.tensors)


def test_a_map_of_other_networks_and_names_beyond_the_network():
    with pytest.raises(ModelError, match="map 'semseg' is for pspnet, not for unet"):
        filled(reference(), map="semseg")
    tensors = {**reference(), "up7.up.weight": np.ones((2, 2, 2, 2))}
    with pytest.raises(WeightsError, match=r"1 tensors have no place: up7\.up\.weight"):
        filled(tensors)


def test_numbers_that_are_none():
    tensors = {**reference(), "outc.conv.bias": np.full(5, np.nan, np.float32)}
    with pytest.raises(WeightsError, match=r"NaN or infinite numbers in outc\.conv\.bias"):
        filled(tensors)
