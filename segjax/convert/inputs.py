"""What a network is fed: the order of its channels, mean and deviation, and the size; part of its weights.

Each map of `segjax/convert/maps/` has an `INPUT`: an `Input`; a table of them by name, where the weights of one family
differ; or None where its repository has neither weights nor a normalisation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from segjax.core.errors import WeightsError, suggest
from segjax.core.schema import IMAGENET_MEAN, IMAGENET_STD, Resize


@dataclasses.dataclass(frozen=True)
class Input:
    """What a network is fed, in the terms of `segjax.core.schema.DatasetInfo`.

    Attributes:
      mean, std: of pixels 0..255, in `channel_order`.
      channel_order: `rgb` or `bgr`, what the first kernel expects.
      resize: the size every image is brought to; None: its own.
      source: whose weights are fed so.
      sizes: what their authors do about sizes at test, where it is not a `resize`; for the reader, not applied.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str = "rgb"
    resize: Resize | None = None
    source: str = ""
    sizes: str = ""

    def fields(self) -> dict[str, object]:
        """As keywords of `DatasetInfo`."""
        names = ("mean", "std", "channel_order", "resize")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        numbers = (",".join(f"{value:.6g}" for value in values) for values in (self.mean, self.std))
        shown = "" if self.resize is None else f", {describe_resize(self.resize)}"
        source = f" ({self.source})" if self.source else ""
        return "{}, mean {}, std {}".format(self.channel_order, *numbers) + shown + source


Inputs = Input | Mapping[str, Input] | None


def imagenet(source: str, sizes: str = "") -> Input:
    """RGB with ImageNet's mean and deviation."""
    return Input(IMAGENET_MEAN, IMAGENET_STD, source=source, sizes=sizes)


def choose_input(declared: Inputs, map: str, name: str | None = None) -> Input:
    """The one `Input` of a map's `INPUT`, or the one of its table that `name` says; `imagenet` is always known.

    Raises:
      WeightsError: it is not certain which; in one line, the choices.
    """
    table = {"imagenet": imagenet("ImageNet's statistics"), **(declared if isinstance(declared, Mapping) else {})}
    if name is not None:
        if name not in table:
            raise WeightsError(f"input {name!r} of the map {map} is unknown.{suggest(name, table)}")
        return table[name]
    if isinstance(declared, Input):
        return declared
    if declared is None:
        raise WeightsError(f"what networks of the map {map} are fed is published nowhere")
    raise WeightsError(f"what networks of the map {map} are fed depends on the file ({', '.join(declared)})")


def describe_resize(resize: Resize) -> str:
    """`resized to 512x1024, bilinear`."""
    size = f"to {resize.size[0]}x{resize.size[1]}" if resize.size is not None else f"by {resize.factor:g}"
    extras = [name for name in ("antialias", "align_corners") if getattr(resize, name)]
    return f"resized {size}, {' '.join([resize.method, *extras])}"
