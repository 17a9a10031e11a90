from __future__ import annotations

import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model, entries, list_models, resolve


def test_every_architecture_has_a_paper_a_default_and_a_test_variant():
    for entry in entries():
        assert entry.paper
        assert "test" in entry.variants
        assert entry.variants[0] != "test"


def test_default_variant_and_overrides():
    assert resolve("unet")[1] == resolve("unet")[0].variants[0]
    model = create_model("unet/test", num_classes=5, in_channels=4)
    assert (model.num_classes, model.in_channels) == (5, 4)


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("unnet", {}, "model 'unnet' is unknown. Did you mean 'unet'"),
        ("unet/smal", {}, "no variant 'smal'. Did you mean 'small'"),
        ("unet/test", {"dept": 3}, "no field 'dept'"),
    ],
)
def test_unknown_names_suggest_the_nearest(name, overrides, words):
    with pytest.raises(ModelError) as caught:
        create_model(name, num_classes=2, **overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_list_models_by_task():
    assert "enet/paper" in list_models("semantic")
    assert not any(name.endswith("/test") for name in list_models())
    with pytest.raises(ModelError, match="task 'semantics' is unknown"):
        list_models("semantics")
