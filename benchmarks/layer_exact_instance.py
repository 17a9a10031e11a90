"""Mask R-CNN against detectron2: the same weights, images and truth; the same proposals, logits, losses, gradient.

    python benchmarks/layer_exact_instance.py record RUN.npz [--variant resnet50]     where torch and detectron2 are
    python benchmarks/layer_exact_instance.py compare RUN.npz [--variant resnet50]    where segjax is

Detectron2 runs on a CPU from its source, without its compiled part: an empty module stands in for `detectron2._C`.
Weights, images and truth are drawn from a seed of their name, so that RUN.npz holds results alone, and that of the
variant `test` is small enough to be a fixture (tests/models/fixtures/maskrcnn.npz). Random samples cannot be the same
in both, so all anchors and all proposals are sampled; how samples are drawn is tested in tests/ops/test_assignment.py.

RUN.npz: `names` and `shapes` of the state dict; `losses` of one training step by name, `grad_norm` of each part of the
network in float64 (`parts`); of evaluation `proposals` [B, P, 4] and `proposed` [B, P], `rpn_logits`, `box_logits`,
`box_deltas` and of detections `box`, `class`, `score`, `count` and `mask` at the images' size, packed.

`compare` fills our network by the map (segjax/convert/maps/detectron2.py) and replaces its entry in
benchmarks/results/layer_exact_instance.json, unless an error is above the bars.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
import types
import zlib
from typing import Any

import numpy as np

RESULT = pathlib.Path(__file__).parent / "results" / "layer_exact_instance.json"
COMMIT = "02b5c4e295e990042a714712c21dc79b731e8833"
SIZES = ((256, 320), (224, 288))
CLASSES = 5
INSTANCES = (6, 3)  # of each image
PROPOSALS, CANDIDATES, DETECTIONS = 48, 64, 10
ANCHORS = {"test": (8, 16, 32, 64, 128), "resnet50": (32, 64, 128, 256, 512), "resnet101": (32, 64, 128, 256, 512)}
ALL = 1 << 17  # more samples than there are anchors
SAMPLES = 4 * (PROPOSALS + max(INSTANCES))
PARTS = {"backbone": ("encoder", "pyramid"), "rpn": ("rpn",), "box": ("box_head",), "mask": ("mask_head",)}
BARS = {"value": 1e-4, "gradient": 1e-3, "pixels": 1e-3}


def weights_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32, drawn from a seed that is the name's, at scales that keep activations and boxes sensible."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    noise = random.standard_normal(shape)
    if name.endswith("running_var"):
        value = random.uniform(0.5, 1.5, shape)
    elif name.endswith("norm.weight"):
        value = random.uniform(0.5, 1.5, shape) * (0.3 if ".conv3." in name else 1.0)
    elif len(shape) < 2:
        value = 0.1 * noise
    else:
        last = name.endswith(("anchor_deltas.weight", "bbox_pred.weight", "cls_score.weight"))
        gain = 0.1 if last else math.sqrt(2)
        value = gain * noise / math.sqrt(math.prod(shape[1:]))
    return value.astype(np.float32)


def images_and_truth() -> list[dict[str, np.ndarray]]:
    """Of each image: `image` float32 [H, W, 3], `mask` bool [n, H, W] of ellipses, `class` int [n]."""
    samples = []
    for index, (size, count) in enumerate(zip(SIZES, INSTANCES)):
        random = np.random.RandomState(index)
        y, x = np.mgrid[: size[0], : size[1]] + 0.5
        masks, image = [], random.standard_normal((*size, 3))
        for _ in range(count):
            centre, radius = random.uniform(0.2, 0.8, 2) * size, random.uniform(8, 90, 2)
            mask = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
            image[mask] += random.uniform(-2, 2, 3)
            masks.append(mask)
        classes = random.randint(0, CLASSES, count)
        samples.append({"image": image.astype(np.float32), "mask": np.array(masks), "class": classes})
    return samples


def record(file: str, variant: str) -> None:
    """Runs detectron2 and writes what the module's docstring says."""
    sys.modules.setdefault("detectron2._C", types.ModuleType("detectron2._C"))
    import torch
    from detectron2.layers import batched_nms, paste_masks_in_image
    from detectron2.modeling.proposal_generator import proposal_utils
    from detectron2.structures import BitMasks, Instances
    from detectron2.utils.events import EventStorage

    model = _detectron2(variant)
    state = {name: torch.from_numpy(weights_of(name, value.shape)) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    inputs = []
    for sample in images_and_truth():
        truth, masks = Instances(sample["mask"].shape[1:]), BitMasks(torch.from_numpy(sample["mask"]))
        truth.gt_boxes, truth.gt_masks = masks.get_bounding_boxes(), masks
        truth.gt_classes = torch.from_numpy(sample["class"])
        inputs.append({"image": torch.from_numpy(sample["image"].transpose(2, 0, 1).copy()), "instances": truth})

    model.eval()
    with torch.no_grad():
        images = model.preprocess_image(inputs)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
        heads = model.roi_heads
        levels = [features[name] for name in heads.box_in_features]
        pooled = heads.box_pooler(levels, [found.proposal_boxes for found in proposals])
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        detected, _ = heads(images, features, proposals)
        objectness, _ = model.proposal_generator.rpn_head([features[f"p{level}"] for level in range(2, 7)])
    rows = np.cumsum([len(found) for found in proposals])[:-1]
    result: dict[str, Any] = {
        "proposals": _padded([found.proposal_boxes.tensor for found in proposals], PROPOSALS),
        "proposed": np.array([len(found) for found in proposals]),
        "box_logits": _padded(np.split(logits.numpy(), rows), PROPOSALS),
        "box_deltas": _padded(np.split(deltas.numpy(), rows), PROPOSALS),
        "rpn_logits": torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in objectness], 1)[:, ::7].numpy(),
        "count": np.array([len(found) for found in detected]),
        "box": _padded([found.pred_boxes.tensor for found in detected], DETECTIONS),
        "class": _padded([found.pred_classes for found in detected], DETECTIONS),
        "score": _padded([found.scores for found in detected], DETECTIONS),
    }
    for index, found in enumerate(detected):
        pasted = paste_masks_in_image(found.pred_masks[:, 0], found.pred_boxes, found.image_size)
        result[f"mask{index}"] = np.packbits(pasted.numpy())

    # In float64 its boxes are float32 and its scores are not, which its suppression refuses.
    proposal_utils.batched_nms = lambda boxes, scores, *rest: batched_nms(boxes, scores.float(), *rest)
    model.double().train()
    for sample in inputs:
        sample["image"] = sample["image"].double()
    with EventStorage():
        losses = model(inputs)
    sum(losses.values()).backward()
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        part = next((part for part in ("rpn", "box", "mask") if f".{part}_" in name), "backbone")
        assert parameter.grad is not None, name
        squares[part] = squares.get(part, 0.0) + parameter.grad.double().square().sum().item()
    result |= {f"loss/{name}": value.item() for name, value in losses.items()}
    result |= {f"grad_norm/{part}": math.sqrt(value) for part, value in squares.items()}
    names = {name: list(value.shape) for name, value in state.items()}
    np.savez_compressed(file, state=json.dumps(names), reference="facebookresearch/detectron2", commit=COMMIT, **result)
    print({key: value for key, value in result.items() if "/" in key}, result["proposed"], result["count"])


def _detectron2(variant: str) -> Any:
    """`mask_rcnn_R_50_FPN` at the variant's sizes, nothing frozen but the statistics and affine of normalisations."""
    from detectron2.config import get_cfg
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import BACKBONE_REGISTRY, build_model
    from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
    from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet

    cfg = get_cfg()
    model = cfg.MODEL
    model.DEVICE, model.META_ARCHITECTURE, model.MASK_ON = "cpu", "GeneralizedRCNN", True
    model.PIXEL_MEAN, model.PIXEL_STD = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    model.BACKBONE.NAME, model.BACKBONE.FREEZE_AT = "build_resnet_fpn_backbone", 0
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model.RESNETS.DEPTH = 101 if variant == "resnet101" else 50
    model.ANCHOR_GENERATOR.SIZES = [[size] for size in ANCHORS[variant]]
    rpn, heads, box, mask = model.RPN, model.ROI_HEADS, model.ROI_BOX_HEAD, model.ROI_MASK_HEAD
    rpn.IN_FEATURES, rpn.BATCH_SIZE_PER_IMAGE = ["p2", "p3", "p4", "p5", "p6"], ALL
    rpn.PRE_NMS_TOPK_TRAIN = rpn.PRE_NMS_TOPK_TEST = CANDIDATES
    rpn.POST_NMS_TOPK_TRAIN = rpn.POST_NMS_TOPK_TEST = PROPOSALS
    heads.NAME, heads.IN_FEATURES, heads.NUM_CLASSES = "StandardROIHeads", ["p2", "p3", "p4", "p5"], CLASSES
    heads.BATCH_SIZE_PER_IMAGE = SAMPLES
    box.NAME, box.NUM_FC, box.POOLER_RESOLUTION = "FastRCNNConvFCHead", 2, 7
    mask.NAME, mask.NUM_CONV, mask.POOLER_RESOLUTION = "MaskRCNNConvUpsampleHead", 4, 14
    cfg.TEST.DETECTIONS_PER_IMAGE = DETECTIONS
    if variant == "test":
        model.BACKBONE.NAME, box.FC_DIM, mask.CONV_DIM = "tiny", 32, 16

        def tiny(cfg: Any, shape: ShapeSpec) -> FPN:
            stages, norm = [], {"norm": "FrozenBN", "stride_in_1x1": True}
            for index, stride in enumerate((1, 2, 2, 2)):
                width = {"in_channels": 8 if index == 0 else 32 << index - 1, "out_channels": 32 << index}
                width["bottleneck_channels"] = 8 << index
                stages.append(ResNet.make_stage(BottleneckBlock, 1, stride_per_block=[stride], **width, **norm))
            encoder = ResNet(BasicStem(3, 8, "FrozenBN"), stages, out_features=list(model.FPN.IN_FEATURES))
            return FPN(encoder, list(model.FPN.IN_FEATURES), 16, top_block=LastLevelMaxPool())

        BACKBONE_REGISTRY._obj_map["tiny"] = tiny
    return build_model(cfg)


def _padded(values: list[Any], length: int) -> np.ndarray:
    arrays = [np.asarray(value) for value in values]
    return np.stack([np.pad(a, [(0, length - len(a)), *[(0, 0)] * (a.ndim - 1)]) for a in arrays])


def compare(run: Any, variant: str) -> dict[str, float]:
    """Errors of our network, relative to the largest magnitude of each value; and the share of other pixels."""
    import jax
    import jax.numpy as jnp

    from segjax.convert.mapping import fill
    from segjax.core.registry import create_model
    from segjax.core.schema import (
        BOX_DELTAS,
        BOX_LOGITS,
        IMAGE,
        INSTANCE,
        INSTANCE_BOX,
        INSTANCE_CLASS,
        INSTANCE_CROWD,
        INSTANCE_VALID,
        ROI_BOX,
        ROI_ROLE,
        RPN_LOGITS,
        SIZE,
    )
    from segjax.data.id_layers import id_layers
    from segjax.ops.boxes import boxes_of_layers
    from segjax.tasks.instance.task import InstanceTask

    numbers = {"candidates": (CANDIDATES,) * 2, "proposals": (PROPOSALS,) * 2, "detections": DETECTIONS}
    model = create_model(f"maskrcnn/{variant}", CLASSES, frozen_norm=True, samples=SAMPLES, **numbers)
    tensors = {name: weights_of(name, tuple(shape)) for name, shape in json.loads(str(run["state"])).items()}
    variables = fill(model, tensors, str(run["reference"]), "detectron2")
    task = InstanceTask(tuple(range(CLASSES)), tuple("abcde"), max(INSTANCES), rpn_samples=ALL)

    def padded(array: np.ndarray) -> np.ndarray:
        return np.pad(array, [(0, side - n) for side, n in zip(SIZES[0], array.shape)] + [(0, 0)])

    samples = images_and_truth()
    layers = [id_layers(sample["mask"]) for sample in samples]
    depth = max(layer.shape[-1] for layer in layers)
    layers = [np.pad(layer, [(0, 0), (0, 0), (0, depth - layer.shape[-1])]) for layer in layers]
    batch = {
        IMAGE: np.stack([padded(sample["image"]) for sample in samples]),
        INSTANCE: np.stack([padded(layer) for layer in layers]),
        INSTANCE_CLASS: _padded([sample["class"] for sample in samples], max(INSTANCES)),
        INSTANCE_VALID: np.arange(max(INSTANCES)) < np.array(INSTANCES)[:, None],
        INSTANCE_CROWD: np.zeros((len(SIZES), max(INSTANCES)), bool),
        SIZE: np.array(SIZES, np.int32),
    }
    boxes, _ = jax.vmap(lambda layers: boxes_of_layers(layers, max(INSTANCES)))(batch[INSTANCE])
    batch[INSTANCE_BOX] = np.asarray(boxes)

    @jax.jit
    def evaluate(variables, batch):
        args, kwargs = task.inputs(batch, train=False)
        outputs = model.apply(variables, *args, **kwargs)
        return outputs, task.predict(outputs, batch)

    outputs, found = jax.tree.map(np.asarray, evaluate(variables, batch))
    errors = {}

    def compared(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        errors[name] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())

    assert (outputs[ROI_ROLE] >= 0).sum(1).tolist() == run["proposed"].tolist()
    assert found["valid"].sum(1).tolist() == run["count"].tolist()
    there, shown = outputs[ROI_ROLE] >= 0, found["valid"]
    assert (found["class"] == run["class"])[shown].all()
    compared("rpn_logits", outputs[RPN_LOGITS][:, ::7], run["rpn_logits"])
    compared("proposals", outputs[ROI_BOX][there], run["proposals"][there])
    compared("box_logits", outputs[BOX_LOGITS][there], run["box_logits"][there])
    deltas = outputs[BOX_DELTAS].reshape(run["box_deltas"].shape)
    compared("box_deltas", deltas[there], run["box_deltas"][there])
    compared("boxes", found["box"], run["box"])
    compared("scores", found["score"], run["score"])
    other = total = 0
    for index, (height, width) in enumerate(SIZES):
        shape = (int(run["count"][index]), height, width)
        theirs = np.unpackbits(run[f"mask{index}"], count=math.prod(shape)).astype(bool).reshape(shape)
        ours = found["mask"][index][shown[index], :height, :width]
        assert not found["mask"][index].sum() - ours.sum(), "a mask reaches into the padding"
        other, total = other + (ours != theirs).sum(), total + theirs.sum()
    errors["mask_pixels"] = float(other / total)

    def loss_of(params, rest, batch):
        args, kwargs = task.inputs(batch, train=True)
        wide, key = model.clone(dtype=jnp.float64), jax.random.key(0)
        outputs = wide.apply({"params": params, **rest}, *args, **kwargs, train=True, rngs={"sample": key})
        return task.loss(outputs, batch, {**task.weights(batch), **task.counts(outputs, batch)}, key)

    with jax.enable_x64(True):
        rest = jax.tree.map(np.float64, dict(variables))
        params, wide = rest.pop("params"), {**batch, IMAGE: np.float64(batch[IMAGE])}
        gradient, parts = jax.jit(jax.grad(loss_of, has_aux=True))(params, rest, wide)
    names = {"rpn_class": "rpn_cls", "rpn_box": "rpn_loc", "class": "cls", "box": "box_reg", "mask": "mask"}
    for ours, theirs in names.items():
        compared(f"loss/{ours}", np.asarray(parts[f"loss/{ours}"]), run[f"loss/loss_{theirs}"])
    for part, modules in PARTS.items():
        leaves = jax.tree_util.tree_leaves_with_path({name: gradient[name] for name in modules})
        squares = [np.square(leaf).sum() for path, leaf in leaves if "'norm'" not in jax.tree_util.keystr(path)]
        compared(f"grad_norm/{part}", np.sqrt(sum(squares)), run[f"grad_norm/{part}"])
    return errors | {"parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))}


def above_bars(errors: dict[str, float]) -> list[str]:
    """Names of what is not exact."""
    kinds = {"mask_pixels": "pixels", **{f"grad_norm/{part}": "gradient" for part in PARTS}}
    return [
        name for name, error in errors.items() if name != "parameters" and not error <= BARS[kinds.get(name, "value")]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("record", "compare"))
    parser.add_argument("run", help="npz of detectron2's run")
    parser.add_argument("--variant", choices=tuple(ANCHORS), default="resnet50")
    args = parser.parse_args()
    if args.verb == "record":
        record(args.run, args.variant)
        return 0
    run = np.load(args.run)
    errors = compare(run, args.variant)
    entry = {"reference": str(run["reference"]), "commit": str(run["commit"]), "images": SIZES, "classes": CLASSES}
    print(json.dumps(errors, indent=2))
    if wrong := above_bars(errors):
        print(f"not exact: {', '.join(wrong)}; the bars are {BARS}; nothing was recorded.", file=sys.stderr)
        return 1
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known[f"maskrcnn/{args.variant}"] = {**entry, **errors}
    RESULT.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
