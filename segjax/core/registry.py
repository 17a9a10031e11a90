"""Networks by name: `architecture[/variant]`, found on disk, imported only when one is made.

Each file of `segjax/models/<task>/` is an architecture; its name is the key. The paper and the variants' names are
read from the source by `ast`, so that listing the zoo imports neither jax nor an architecture.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import re
from pathlib import Path
from typing import Any

from segjax.core.errors import ModelError, suggest

_MODELS = Path(__file__).parent.parent / "models"
TASKS = ("semantic", "instance", "panoptic", "points")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
      name: its key.
      task: the folder it is in.
      paper: its PAPER.
      variants: their names, the first the default.
      input: its INPUT, (height, width, classes), or (points, classes), of the paper's main experiment, at which it is
        counted; 512x512 of VOC's 21 classes for a file that has none.
    """

    name: str
    task: str
    paper: str
    variants: tuple[str, ...]
    input: tuple[int, ...] = (512, 512, 21)

    @property
    def year(self) -> str:
        """The last year that the paper's line names."""
        years = re.findall(r"\b(?:19|20)\d\d\b(?!\.\d)", self.paper)
        return years[-1] if years else ""


def list_models(task: str | None = None) -> list[str]:
    """Every `architecture/variant`, or those of one task, sorted; the tiny `test` variants left out."""
    return [f"{e.name}/{v}" for e in entries(task) for v in e.variants if v != "test"]


def entries(task: str | None = None) -> list[Entry]:
    """Every architecture, or those of one task, sorted by name."""
    if task is not None and task not in TASKS:
        raise ModelError(f"task {task!r} is unknown.{suggest(task, TASKS)}")
    return sorted((e for e in _scan().values() if task in (None, e.task)), key=lambda e: e.name)


def create_model(name: str, num_classes: int, in_channels: int = 3, dtype: Any = None, **overrides: Any) -> Any:
    """The linen Module called `architecture[/variant]`.

    Args:
      name: such as `unet` (its default variant) or `deeplabv3plus/resnet50`.
      num_classes: K, the channels of the logits.
      in_channels: C of the images.
      dtype: compute type, float32 by default; parameters are float32 whatever it is.
      **overrides: fields of the network that differ from the variant's; linen's `parent`.

    Raises:
      ModelError: for an unknown architecture, variant or field, with the nearest known one.
    """
    entry, variant = resolve(name)
    module = importlib.import_module(f"segjax.models.{entry.task}.{entry.name}")
    fields = {f.name for f in dataclasses.fields(module.MODEL) if f.init and f.name not in ("parent", "name")}
    for key in overrides:
        if key not in fields and key != "parent":
            raise ModelError(f"model {name!r} has no field {key!r}.{suggest(key, fields)}")
    given = {"num_classes": num_classes, "in_channels": in_channels}
    if dtype is not None:
        given["dtype"] = dtype
    return module.MODEL(**{**module.VARIANTS[variant], **given, **overrides})


def resolve(name: str) -> tuple[Entry, str]:
    """The architecture and variant that `name` means; raises ModelError with the nearest known name."""
    key, _, variant = name.partition("/")
    known = _scan()
    if key not in known:
        raise ModelError(f"model {name!r} is unknown.{suggest(key, known)} `segjax models` lists them.")
    entry = known[key]
    variant = variant or entry.variants[0]
    if variant not in entry.variants:
        raise ModelError(f"model {key!r} has no variant {variant!r}.{suggest(variant, entry.variants)}")
    return entry, variant


@functools.cache
def _scan() -> dict[str, Entry]:
    found = {}
    for task in TASKS:
        for path in sorted((_MODELS / task).glob("*.py")):
            if path.stem != "__init__":
                found[path.stem] = _read(path, task)
    return found


def _read(path: Path, task: str) -> Entry:
    values = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = node.value
    paper, variants = values.get("PAPER"), values.get("VARIANTS")
    if not isinstance(variants, ast.Dict) or paper is None:
        raise ModelError(f"{path}: an architecture file needs PAPER and VARIANTS, both written out literally.")
    names = tuple(ast.literal_eval(key) for key in variants.keys if key is not None)
    size = (ast.literal_eval(values["INPUT"]),) if "INPUT" in values else ()
    return Entry(path.stem, task, ast.literal_eval(paper), names, *size)
