from __future__ import annotations

import jax
import numpy as np
import pytest

from segjax.models.encoders import create_encoder
from segjax.models.encoders.mobilenet import InvertedResidual


@pytest.mark.parametrize(("last_conv", "count"), [(True, 2_223_872), (False, 1_811_712)])
def test_parameters_equal_torchvision_features(last_conv, count, shapes_of):
    encoder = create_encoder("mobilenetv2", last_conv=last_conv)
    _, parameters, features = shapes_of(encoder)
    assert parameters == count
    assert features[32].shape[-1] == encoder.channels[32] == (1280 if last_conv else 320)


def test_width_rounds_channels_to_multiples_of_eight_and_not_far_down(shapes_of):
    encoder = create_encoder("mobilenetv2", width=0.35)
    # 0.35 times 16, 24, 32, 96 and 320 as Google's `make_divisible` rounds them.
    assert encoder.channels == {2: 8, 4: 8, 8: 16, 16: 32, 32: 112}
    assert {s: f.shape[-1] for s, f in shapes_of(encoder)[2].items()} == encoder.channels


@pytest.mark.parametrize(("stride", "rate"), [(1, 2), (2, 1)])
def test_inverted_residual_equals_torch(stride, rate, random_variables):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = jax.random.normal(jax.random.key(0), (2, 9, 12, 4))
    block = InvertedResidual(4, 6, stride, rate)
    variables = random_variables(block, x)

    def as_torch(array):
        return torch.from_numpy(np.array(array, np.float64))

    def conv_norm(x, name, **geometry):
        params, stats = variables["params"][name], variables["batch_stats"][name]["norm"]
        x = functional.conv2d(x, as_torch(params["conv"]["kernel"]).permute(3, 2, 0, 1), **geometry)
        moments = as_torch(stats["mean"]), as_torch(stats["var"])
        return functional.batch_norm(x, *moments, as_torch(params["norm"]["scale"]), as_torch(params["norm"]["bias"]))

    nchw = as_torch(x).permute(0, 3, 1, 2)
    y = functional.relu6(conv_norm(nchw, "expand"))
    y = functional.relu6(conv_norm(y, "depthwise", stride=stride, padding=rate, dilation=rate, groups=24))
    y = conv_norm(y, "project")
    expected = (y + nchw if stride == 1 else y).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(block.apply(variables, x, False), expected, rtol=1e-4, atol=1e-4)
