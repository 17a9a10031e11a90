"""Our networks against the implementations others built: the same weights, the same image, the same numbers.

    python benchmarks/layer_exact.py RUN.npz --model unet/same [--set depth=3] [--map unet]

RUN.npz is made on the side, by a script that imports the reference and calls `record_reference` below:

    import sys; sys.path.insert(0, "benchmarks")
    from layer_exact import record_reference
    record_reference(UNet(3, 5), "unet.npz", classes=5, reference="milesial/Pytorch-UNet", commit="21d7850f")

It holds `state/NAME`, every tensor of the state dict; `image` float32 [B, H, W, C]; `logits` [B, H, W, K], evaluation
mode, at the image's size; `label` int64 [B, H, W]; of one step in training mode without dropout (batch statistics in
the normalisations) the `loss`, mean cross-entropy plus `aux_weight` times that of each auxiliary output, and
`grad_norm`, the norm of its gradient over all parameters; the texts `reference` (owner/name) and `commit`. A network's
centres and offsets, if it has them, are further channels of the logits, behind the `classes`.

Our network is filled by its map (segjax/convert/maps) and must give the logits within 1e-4 of their largest magnitude
and the gradient norm, taken in float64 as theirs is, within 1e-3; then its entry in
benchmarks/results/layer_exact.json is replaced: those errors, and the parameters compared.
"""

from __future__ import annotations

import argparse
import ast
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

RESULT = pathlib.Path(__file__).parent / "results" / "layer_exact.json"
LOGITS_BAR, GRADIENT_BAR = 1e-4, 1e-3


def record_reference(
    net: Any,
    file: str,
    *,
    classes: int,
    reference: str,
    commit: str,
    size: tuple[int, int] = (64, 96),
    channels: int = 3,
    batch: int = 2,
    aux_weight: float = 0.4,
    outputs: Callable[[Any], Any] = lambda result: result,
    randomize: bool = True,
    double: bool = True,
) -> None:
    """Runs a torch module and writes what its header describes.

    Args:
      net: takes [B, C, H, W].
      file: the npz to write.
      classes: K.
      reference, commit: where the module is from.
      size, channels, batch: of the random image.
      aux_weight: of each auxiliary output's loss.
      outputs: from what `net` returns to the logits [B, K, H, W] at the image's size, or (logits, *auxiliary ones). Of
        a network with centres and offsets, these are further channels of the logits, in this order.
      double: the training step in float64: in float32 the gradient of a deep network is uncertain by 1e-3 and more.
      randomize: draw the statistics and affine parameters of every batch normalisation, zero biases and PReLU slopes.
    """
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    with torch.no_grad():
        for module in torch.nn.Module.modules(net) if randomize else ():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm | torch.nn.GroupNorm | torch.nn.LayerNorm):
                if module.weight is not None:
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0, 0.2)
            elif isinstance(module, torch.nn.PReLU):
                module.weight.uniform_(0.1, 0.4)
            elif getattr(module, "bias", None) is not None and torch.is_tensor(module.bias):
                module.bias.normal_(0, 0.1)
    for module in torch.nn.Module.modules(net):  # ESPNet has a list of that name
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    state = {f"state/{name}": value.numpy().copy() for name, value in net.state_dict().items()}
    image, label = torch.randn(batch, channels, *size), torch.randint(classes, (batch, *size))

    def run(image: Any) -> list[Any]:
        found = outputs(net(image))
        found = list(found) if isinstance(found, list | tuple) else [found]
        for logits in found:
            assert (len(logits), *logits.shape[2:]) == (batch, *size), logits.shape
            assert logits.shape[1] >= classes, logits.shape
        return found

    net.eval()
    with torch.no_grad():
        logits = run(image)[0]
    net.train()
    kind = torch.float64 if double else torch.float32
    net.to(kind)
    losses = [F.cross_entropy(scores, label) for scores in run(image.to(kind))]
    loss = losses[0] + aux_weight * sum(losses[1:])
    loss.backward()
    gradients = [p.grad.double().square().sum() for p in net.parameters() if p.grad is not None]
    np.savez(
        file,
        **state,
        image=image.permute(0, 2, 3, 1).numpy(),
        logits=logits.permute(0, 2, 3, 1).numpy(),
        label=label.numpy(),
        classes=classes,
        loss=loss.item(),
        grad_norm=torch.stack(gradients).sum().sqrt().item(),
        aux_weight=aux_weight,
        reference=reference,
        commit=commit,
    )


def compare(run: Any, model: Any, map_name: str | None) -> dict[str, Any]:
    """The errors of our network, filled with the run's weights."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    from segjax.convert.mapping import fill
    from segjax.core.schema import AUX_LOGITS, CENTER, LOGITS, OFFSET

    def dense(out):
        return jnp.concatenate([out[key].upsample() for key in (LOGITS, CENTER, OFFSET) if key in out], axis=-1)

    tensors = {name.removeprefix("state/"): run[name] for name in run.files if name.startswith("state/")}
    variables = fill(model, tensors, str(run["reference"]), map_name)
    logits = np.asarray(jax.jit(lambda v: dense(model.apply(v, run["image"], train=False)))(variables))

    def without_dropout(call, args, kwargs, context):
        return args[0] if isinstance(context.module, nn.Dropout) else call(*args, **kwargs)

    wide = model.clone(dtype=jnp.float64)

    def loss_of(params, rest, image, label):
        with nn.intercept_methods(without_dropout):
            out, _ = wide.apply({"params": params, **rest}, image, train=True, mutable=["batch_stats"])
        heads = [dense(out), *(logits.upsample() for logits in out.get(AUX_LOGITS, ()))]
        losses = [-jnp.take_along_axis(jax.nn.log_softmax(x), label[..., None], -1).mean() for x in heads]
        return losses[0] + float(run["aux_weight"]) * sum(losses[1:])

    with jax.enable_x64(True):
        rest = jax.tree.map(np.float64, dict(variables))
        params = rest.pop("params")
        image, label = np.float64(run["image"]), run["label"]
        loss, gradient = jax.jit(jax.value_and_grad(loss_of))(params, rest, image, label)
    squares = [np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(gradient)]
    theirs = float(run["grad_norm"])
    return {
        "logits_error": float(np.abs(logits - run["logits"]).max() / np.abs(run["logits"]).max()),
        "loss_error": abs(float(loss) - float(run["loss"])) / abs(float(run["loss"])),
        "grad_norm_error": abs(float(np.sqrt(sum(squares))) - theirs) / theirs,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="npz of a reference's run")
    parser.add_argument("--model", required=True, help="architecture[/variant]")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field that differs")
    parser.add_argument("--map", help="file of segjax/convert/maps; default: the one that knows the names")
    args = parser.parse_args()

    from segjax.core.registry import create_model

    run = np.load(args.run)
    fields = dict(text.split("=", 1) for text in args.set)
    fields = {key: _literal(value) for key, value in fields.items()}
    classes = int(run["classes"] if "classes" in run else run["logits"].shape[-1])
    model = create_model(args.model, classes, run["image"].shape[-1], **fields)
    entry = {
        "reference": str(run["reference"]),
        "commit": str(run["commit"]),
        **({"fields": fields} if fields else {}),
        "image": list(run["image"].shape),
        "classes": classes,
        **compare(run, model, args.map),
    }
    print(json.dumps({args.model: entry}, indent=2))
    if not (entry["logits_error"] <= LOGITS_BAR and entry["grad_norm_error"] <= GRADIENT_BAR):
        print(f"not exact: the bars are {LOGITS_BAR} and {GRADIENT_BAR}; nothing was recorded.", file=sys.stderr)
        return 1
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    record[args.model] = entry
    RESULT.write_text(json.dumps(dict(sorted(record.items())), indent=2) + "\n")
    return 0


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    sys.exit(main())
