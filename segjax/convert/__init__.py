"""Other people's weights: files read, names and axes turned into ours, and what the networks are fed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def input_of(model: Any, file: str | Path, name: str | None = None, *, map: str | None = None, into: str = "") -> Any:
    """What the network that a file is for is fed: a `segjax.convert.inputs.Input`.

        fed = segjax.convert.input_of("fcn/8s", "fcn8s.pth")
        info = DatasetInfo("voc", classes, palette, **fed.fields())

    Args:
      model: a network, or its name in the registry.
      file: the weights.
      name: which one, where the weights of a family differ.
      map, into: as of `segjax.load_weights`.

    Raises:
      WeightsError: a file that cannot be read; a family whose weights differ, and no `name`, or an unknown one.
      ModelError: an unknown model, map or submodule.
    """
    from segjax.convert.inputs import choose_input
    from segjax.convert.mapping import matched
    from segjax.convert.read import read_weights
    from segjax.core.errors import WeightsError
    from segjax.core.registry import create_model

    model = create_model(model, num_classes=2) if isinstance(model, str) else model
    match = matched(model, read_weights(file), map, into)
    try:
        return choose_input(match.rules.INPUT, match.map, name)
    except WeightsError as error:
        raise WeightsError(f"{str(error).removesuffix('.')}; name one, or give mean, std and order.") from error
