"""List the networks: paper, variants, parameters, multiply-accumulates, output stride; or tell about one of them.

The figures of the list are kept in segjax/models/figures.json; `--update` counts them anew, of one architecture or of
all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent
FIGURES = PACKAGE / "models" / "figures.json"
LAYER_EXACT = PACKAGE.parent / "benchmarks" / "results" / "layer_exact.json"
WRITE_PAGE = "segjax models --update && segjax models --markdown > docs/models.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one architecture[/variant]: its fields, layers and published figures")
    parser.add_argument("--task", help="only the networks of this task")
    parser.add_argument("--num-classes", type=int, help="classes the parameters are counted for; default: the paper's")
    parser.add_argument("--markdown", action="store_true", help="print docs/models.md")
    parser.add_argument("--update", action="store_true", help="count the figures of the list anew")


def run(args: argparse.Namespace) -> int:
    if args.update:
        update(args.name)
    elif args.markdown:
        print(page(), end="")
    elif args.name:
        _show(args.name, args.num_classes)
    else:
        _list(args.task)
    return 0


def read_figures() -> dict[str, dict[str, Any]]:
    """{architecture/variant: size, classes, parameters, macs, output_stride}."""
    return json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}


def count(name: str, num_classes: int | None = None) -> tuple[dict[str, Any], Any]:
    """(the record kept in figures.json, the whole `segjax.models.count.Cost`) of one variant at its paper's input."""
    from segjax.core.registry import create_model, resolve
    from segjax.models.count import cost

    *size, classes = resolve(name)[0].input
    classes = num_classes or classes
    found = cost(create_model(name, classes), tuple(size))
    return {
        "size": list(found.size),
        "classes": classes,
        "parameters": found.parameters,
        "macs": found.macs,
        "output_stride": found.output_stride,
    }, found


def update(name: str | None) -> None:
    """Counts every variant of one architecture, or of all, and writes figures.json; what no longer exists leaves it."""
    from segjax.core.files import write_text
    from segjax.core.registry import list_models, resolve

    only = resolve(name)[0].name if name else None
    figures, names = read_figures(), list_models()
    for each in names:
        if only is None or resolve(each)[0].name == only:
            figures[each], _ = count(each)
            print(each, *figures[each].values(), flush=True)
    lines = [f"  {json.dumps(each)}: {json.dumps(figures[each])}" for each in sorted(names) if each in figures]
    write_text(FIGURES, "{\n" + ",\n".join(lines) + "\n}\n")


def _columns(figure: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    """Parameters, GMACs, where they were counted, output stride."""
    if figure is None:
        return ("not counted", "", "", "")
    size, classes = figure["size"], figure["classes"]
    at = f"{'x'.join(map(str, size))}{' points' if len(size) == 1 else ''}, {classes} classes"
    return f"{figure['parameters']:,}", f"{figure['macs'] / 1e9:,.2f}", at, str(figure["output_stride"])


def _variants(entry: Any) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    figures = read_figures()
    for variant in entry.variants:
        if variant != "test":
            yield variant, _columns(figures.get(f"{entry.name}/{variant}"))


def _list(task: str | None) -> None:
    from segjax.core.registry import entries

    print(f"{'':22}{'parameters':>13}{'GMACs':>11}  {'output stride':15}at")
    for entry in entries(task):
        print(f"{entry.name}  {entry.year}  {entry.paper}")
        for variant, (parameters, macs, at, stride) in _variants(entry):
            print(f"  {variant:<20}{parameters:>13}{macs:>11}  {stride:15}{at}")


def _show(name: str, num_classes: int | None) -> None:
    import ast
    import dataclasses

    from segjax.core.registry import create_model, resolve

    entry, variant = resolve(name)
    figure, found = count(name, num_classes)
    model = create_model(name, figure["classes"])
    parameters, macs, at, stride = _columns(figure)
    print(f"{entry.name}/{variant}  {entry.paper}")
    print(f"  parameters     {parameters} at {figure['classes']} classes, {model.in_channels} channels")
    print(f"  GMACs          {macs} at {at}")
    print(f"  stride         {model.stride}: height and width must be multiples of it")
    print(f"  output stride  {stride}\n")
    print(f"  {'stride':>6}{'layers':>8}{'parameters':>14}{'GMACs':>10}")
    for step, (layers, own, work) in found.by_stride.items():
        print(f"  {step:>6}{layers:>8}{own:>14,}{work / 1e9:>10.2f}")
    free = found.macs - sum(work for *_, work in found.by_stride.values())
    if free > 0:
        print(f"  products without a kernel (attention) {free / 1e9:.2f}")
    print()
    for field in dataclasses.fields(model):
        if field.init and field.name not in ("parent", "name"):
            print(f"  {field.name} = {getattr(model, field.name)!r}")
    source = PACKAGE / "models" / entry.task / f"{entry.name}.py"
    print(f"\n{ast.get_docstring(ast.parse(source.read_text(encoding='utf-8')))}")


def page() -> str:
    """docs/models.md."""
    from segjax.core.registry import entries

    lines = [
        "# Networks",
        "",
        f"Generated: `{WRITE_PAGE}`.",
        "",
        "Parameters are trainable ones, auxiliary heads included; GMACs are 10^9 multiply-accumulates of convolutions",
        "and matrix products in evaluation, one image, counted by tracing (`segjax/models/count.py`). Output stride is",
        "the coarsest resolution at which at least a hundredth of the work is done. What each network is held to",
        "stands in its file, and `segjax models NAME` shows it. The first variant is the default.",
        "",
        "| name | year | paper | variant | parameters | GMACs | counted at | output stride |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries():
        head = f"`{entry.name}` | {entry.year} | {entry.paper}"
        for variant, columns in _variants(entry):
            parameters, macs, at, stride = columns
            lines.append(f"| {head} | `{variant}` | {parameters} | {macs} | {at} | {stride} |")
            head = " | | "
    lines += [
        "",
        "## Layer-exact",
        "",
        "Random weights, running statistics and affine parameters of a reference implementation, carried over by our",
        "own map files, give the same logits in evaluation (largest difference over largest magnitude) and the same",
        "norm of the loss gradient in training (relative difference, dropout off): `benchmarks/layer_exact.py`, which",
        "writes `benchmarks/results/layer_exact.json`.",
        "",
        "| network | reference | commit | parameters | logits | gradient norm |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in read_layer_exact().items():
        reference, commit = found["reference"], found["commit"][:8]
        errors = f"{found['logits_error']:.1e} | {found['grad_norm_error']:.1e}"
        lines.append(f"| `{name}` | {reference} | `{commit}` | {found['parameters']:,} | {errors} |")
    return "\n".join(lines) + "\n"


def read_layer_exact() -> dict[str, dict[str, Any]]:
    return json.loads(LAYER_EXACT.read_text(encoding="utf-8")) if LAYER_EXACT.exists() else {}
