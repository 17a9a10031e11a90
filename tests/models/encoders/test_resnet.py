from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.models.encoders import create_encoder
from segjax.models.encoders.atrous import atrous_stages
from segjax.models.encoders.resnet import BasicBlock, Bottleneck

TORCHVISION = {"resnet18": 11_689_512, "resnet50": 25_557_032, "resnet101": 44_549_160, "resnet152": 60_192_808}
FC = {"resnet18": 513_000, "resnet50": 2_049_000, "resnet101": 2_049_000, "resnet152": 2_049_000}


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_parameters_equal_torchvision_without_its_classifier(name, shapes_of):
    assert shapes_of(create_encoder(name))[1] == TORCHVISION[name] - FC[name]


def test_parameters_of_resnet34(shapes_of):
    assert shapes_of(create_encoder("resnet34"))[1] == 21_284_672


def test_parameters_of_the_deep_stem_equal_mmsegmentation(shapes_of):
    assert shapes_of(create_encoder("resnet50", stem="deep"))[1] == 23_527_264


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_324_992), ("resnet50", 23_631_808)])
def test_parameters_of_the_wide_stem_equal_csail(name, parameters, shapes_of):
    assert shapes_of(create_encoder(name, stem="wide"))[1] == parameters


@pytest.mark.parametrize("stride", [1, 2])
def test_basic_block_equals_torch(stride, random_variables):
    torch = pytest.importorskip("torch")
    x = jax.random.normal(jax.random.key(0), (2, 10, 12, 4))
    block = BasicBlock(4 * stride, stride, (1, 3))
    variables = random_variables(block, x)

    def reference(x, conv_norm):
        y = torch.relu(conv_norm(x, "conv1", stride=stride, padding=1))
        y = conv_norm(y, "conv2", padding=3, dilation=3)
        return torch.relu(y + (x if stride == 1 else conv_norm(x, "shortcut", stride=stride)))

    _compare(torch, block, variables, x, reference)


@pytest.mark.parametrize("stride", [1, 2])
def test_bottleneck_equals_torch(stride, random_variables):
    torch = pytest.importorskip("torch")
    x = jax.random.normal(jax.random.key(0), (2, 10, 12, 8))
    block = Bottleneck(8 * stride, stride, (2, 2))
    variables = random_variables(block, x)

    def reference(x, conv_norm):
        y = torch.relu(conv_norm(x, "conv1"))
        y = torch.relu(conv_norm(y, "conv2", stride=stride, padding=2, dilation=2))
        y = conv_norm(y, "conv3")
        return torch.relu(y + (x if stride == 1 else conv_norm(x, "shortcut", stride=stride)))

    _compare(torch, block, variables, x, reference)


def _compare(torch, block, variables, x, reference):
    """Evaluation and training mode against `reference(x, conv_norm)` in float64 torch."""

    def as_torch(array):
        return torch.from_numpy(np.array(array, np.float64))

    nchw = as_torch(x).permute(0, 3, 1, 2)
    for train in (False, True):

        def conv_norm(x, name, train=train, **geometry):
            params, stats = variables["params"][name], variables["batch_stats"][name]["norm"]
            kernel = as_torch(params["conv"]["kernel"]).permute(3, 2, 0, 1)
            scale, bias = as_torch(params["norm"]["scale"]), as_torch(params["norm"]["bias"])
            mean, var = as_torch(stats["mean"]), as_torch(stats["var"])
            x = torch.nn.functional.conv2d(x, kernel, **geometry)
            return torch.nn.functional.batch_norm(x, mean, var, scale, bias, training=train, eps=1e-5)

        expected = reference(nchw, conv_norm).permute(0, 2, 3, 1).numpy()
        got = block.apply(variables, x, train, mutable=["batch_stats"])[0]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_multi_grid_multiplies_the_rates_of_the_last_stage_only(random_variables):
    """At one pixel a 3x3 convolution of any rate reaches only its centre; at 3x3 pixels a rate of 3 does so, 1 not."""
    x = jax.random.normal(jax.random.key(0), (1, 96, 96, 3))
    plain, grid, ones = (create_encoder("resnet_test", multi_grid=m) for m in ((), (1, 3), (1, 1)))
    variables = random_variables(plain, x)
    a, b, c = (jax.jit(lambda v, x, e=e: e.apply(v, x, False))(variables, x) for e in (plain, grid, ones))
    np.testing.assert_array_equal(a[16], b[16])
    np.testing.assert_array_equal(a[32], c[32])
    assert float(jnp.abs(a[32] - b[32]).max()) > 1e-2
    centres = jax.tree_util.tree_map_with_path(_only_centre_of_last_block, variables)
    expected = jax.jit(lambda v, x: plain.apply(v, x, False))(centres, x)
    np.testing.assert_allclose(b[32], expected[32], rtol=1e-5, atol=1e-5)


def _only_centre_of_last_block(path, leaf):
    names = [key.key for key in path]
    if "stage4_block2" not in names or names[-1] != "kernel":
        return leaf
    mask = np.zeros((*leaf.shape[:2], 1, 1), np.float32)
    mask[1, 1] = 1
    return leaf * mask


def test_dilate_first_gives_the_first_block_the_stages_own_rate():
    rates = lambda **fields: [  # noqa: E731
        create_encoder("resnet50", **fields)._rates(i, j, stage)
        for i, stage in enumerate(atrous_stages((1, 2, 2, 2), 8, start=4))
        for j in (0, 1)
    ]
    assert rates() == [(1, 1), (1, 1), (1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4)]
    assert rates(dilate_first=True) == [(1, 1), (1, 1), (1, 1), (1, 1), (2, 2), (2, 2), (4, 4), (4, 4)]
    hybrid = ((1,), (1,), (1, 2), (5, 9))
    assert rates(stage_rates=hybrid) == [(1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (2, 2), (5, 5), (9, 9)]


def test_the_ceiling_pool_adds_a_pixel_to_even_sides(shapes_of):
    sizes = {stride: x.shape[1] for stride, x in shapes_of(create_encoder("resnet18", ceil_pool=True))[2].items()}
    assert sizes == {2: 32, 4: 17, 8: 9, 16: 5, 32: 3}


def test_stage_rates_of_the_wrong_length_are_refused(shapes_of):
    with pytest.raises(ModelError, match=r"stage_rates=\(\(1,\),\) has not one entry a stage: give 4"):
        shapes_of(create_encoder("resnet18", stage_rates=((1,),)))


def test_a_stage_that_an_encoder_lacks_is_refused():
    with pytest.raises(ModelError, match="encoder 'resnet18' has no stage at stride 64"):
        create_encoder("resnet18", stages=(4, 64))


def test_multi_grid_of_the_wrong_length_is_refused():
    with pytest.raises(ModelError, match=r"multi_grid=\(1, 2\) has 2 factors, but the last stage has 3 blocks"):
        jax.eval_shape(create_encoder("resnet50", multi_grid=(1, 2)).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_an_unknown_stem_is_refused():
    with pytest.raises(ModelError, match="stem='8x8' is unknown"):
        jax.eval_shape(create_encoder("resnet18", stem="8x8").init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
