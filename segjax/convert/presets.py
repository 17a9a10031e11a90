"""Published files of which everything is known: their network, what it is fed, its classes, and how it was scored."""

from __future__ import annotations

import dataclasses

from segjax.convert.class_lists import CLASS_LISTS, Class
from segjax.convert.inputs import Input
from segjax.convert.maps import drn, enet, erfnet, espnet
from segjax.core.errors import WeightsError, suggest
from segjax.core.schema import DatasetInfo, Resize

_VOID: Class = ("unlabelled", 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Preset:
    """One published file, or several of one kind.

    Attributes:
      model: the network it is for; of another variant of it is the file where the user says so.
      input: what it is fed.
      classes: of each output, in order.
      void_class: the output that means void, or None.
      void: convention of the published score, see `segjax.metrics.confusion.scores`.
    """

    model: str
    input: Input
    classes: tuple[Class, ...]
    void_class: int | None = None
    void: str = "ignore"

    def info(self, name: str) -> DatasetInfo:
        """What a `Predictor` needs to know, under the name `name`."""
        names = tuple(name for name, *_ in self.classes)
        palette = tuple((red, green, blue) for _, red, green, blue in self.classes)
        return DatasetInfo(name, names, palette, void_class=self.void_class, **self.input.fields())


def _at(input: Input, resize: Resize) -> Input:
    return dataclasses.replace(input, resize=resize)


_CAMVID = (*CLASS_LISTS["camvid"], _VOID)
_CITYSCAPES = (*CLASS_LISTS["cityscapes"], _VOID)
_PILLOW = {"antialias": True}  # resized by torchvision, that is by Pillow

PRESETS = {
    # davidtvs/PyTorch-ENet: save/ENet_default at 921e40c is the file of CamVid in the layout of 2018.
    "enet-camvid": Preset("enet/davidtvs-2018", _at(enet.INPUT, Resize(size=(360, 480), **_PILLOW)), _CAMVID, 11),
    "enet-cityscapes": Preset(
        "enet/davidtvs",
        _at(enet.INPUT, Resize(size=(512, 1024), **_PILLOW)),
        (_VOID, *CLASS_LISTS["cityscapes"]),
        0,
    ),
    # Eromera/erfnet_pytorch: erfnet_pretrained.pth.
    "erfnet-cityscapes": Preset(
        "erfnet/eromera", _at(erfnet.INPUT, Resize(size=(512, 1024), **_PILLOW)), _CITYSCAPES, 19
    ),
    # sacmehta/ESPNet: pretrained/decoder and pretrained/encoder (ESPNet-C), espnet_p_2_q_*.pth and *_camvid.pth.
    "espnet-camvid": Preset("espnet/p2-q8", espnet.INPUT["camvid"], _CAMVID, 11, void="union"),
    "espnet-cityscapes": Preset("espnet/p2-q8", espnet.INPUT["cityscapes"], _CITYSCAPES, 19),
    # fyu/drn: drn_d_22_cityscapes.pth and its like.
    "drn-cityscapes": Preset("drn/d-22", drn.INPUT["cityscapes"], CLASS_LISTS["cityscapes"]),
}


def find_preset(name: str, model: str | None) -> Preset:
    """The preset of a name.

    Raises:
      WeightsError: an unknown one, or one of another architecture than `model`, where that is given.
    """
    if name not in PRESETS:
        raise WeightsError(f"--preset: {name!r} is unknown.{suggest(name, PRESETS)}")
    preset = PRESETS[name]
    if model is not None and model.partition("/")[0] != preset.model.partition("/")[0]:
        raise WeightsError(f"--preset: {name} is of {preset.model.partition('/')[0]}, not of {model}.")
    return preset
