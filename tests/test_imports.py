"""Who may import whom (docs/design.md), read from the source; and what `import segjax` must not pull in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "segjax"

# room -> the rooms it may import; a dotted name allows just that module
ALLOWED = {
    "core": set(),
    "ops": {"core"},
    "nn": {"core", "ops"},
    "models": {"core", "ops", "nn"},
    "losses": {"core", "ops"},
    "metrics": {"core", "ops"},
    "postprocess": {"core", "ops"},
    "data": {"core", "ops"},
    "parallel": {"core"},
    "sweep": {"core"},
    "tasks": {
        "core",
        "ops",
        "losses",
        "metrics",
        "postprocess",
        "models.base",
        "data.augment",
        "data.options",
        "inference.draw",
        "report.charts",
        "report.tables",
    },
    "training": {"core", "parallel", "tasks.base"},
    "inference": {
        "core",
        "ops",
        "parallel",
        "postprocess",
        "tasks",
        "models.base",
        "training.checkpoint",
        "data.augment",
        "data.cloud_file",
        "data.consistency",
        "data.counts",
        "data.decode",
        "data.labels",
        "data.layout",
        "data.limits",
        "data.palettes",
        "data.tiff",
    },
    "compat": {"core", "ops"},
    "convert": {"core", "nn", "models", "training.initialise"},
    "report": {"core", "inference.draw", "inference.table", "tasks.view"},
    "autoconfig": {"core", "data.fingerprint", "models.base", "models.count", "training.throughput"},
    "planning": {"core", "ops.formulation", "parallel", "training", "tasks.base", "report.charts", "report.style"},
    "benchmarking": {"core", "parallel", "training", "planning", "tasks.base"},
    "cli": None,  # everything
}
# library -> the only rooms or modules that may import it
ONLY_IN = {
    "flax": {"nn", "models"},
    "orbax": {"training.checkpoint"},
    "grain": {"data"},
    "tensorflow_datasets": {"data"},
    "array_record": {"data"},
    "torch": set(),
    "tensorflow": set(),
}


def _modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if dotted != "__init__":
            found.append((dotted, path))
    return found


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _within(module: str, rooms: set[str]) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


@pytest.mark.parametrize(("module", "path"), _modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_rooms_import_only_what_the_design_allows(module: str, path: Path) -> None:
    room = module.split(".")[0]
    assert room in ALLOWED, f"segjax/{room} is not a room of docs/design.md"
    for name in sorted(_imports(path)):
        if name.startswith("segjax."):
            target = name.removeprefix("segjax.")
            assert room == "cli" or target.split(".")[0] != "cli", f"{module} imports {name}: nothing imports cli"
            if ALLOWED[room] is not None and target.split(".")[0] != room:
                shallow = any(allowed.startswith(target + ".") for allowed in ALLOWED[room])
                assert shallow or _within(target, ALLOWED[room]), f"{module} may not import {name}"
        for library, rooms in ONLY_IN.items():
            if name == library or name.startswith(library + "."):
                assert _within(module, rooms), f"{module} may not import {name}"


def test_no_architecture_imports_another() -> None:
    for module, path in _modules():
        if module.startswith("models.") and module.count(".") == 2 and not module.startswith("models.encoders"):
            task = module.split(".")[1]
            for name in _imports(path):
                assert not name.startswith(f"segjax.models.{task}."), f"{module} imports {name}: move it down to nn/"


def test_files_are_short_and_have_a_subject() -> None:
    drawers = {"utils.py", "common.py", "misc.py", "helpers.py"}
    for module, path in _modules():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        limit = 400 if module.startswith("models.") else 500
        assert lines <= limit, f"{path} has {lines} lines, over {limit}"
        assert path.name not in drawers, f"{path}: name the file after its subject"


def test_configs_import_only_ml_collections() -> None:
    """And the rules that choose a config, which a file's `adapt` imports when it is called."""
    for path in sorted((PACKAGE.parent / "configs").rglob("*.py")):
        for name in _imports(path):
            known = name.split(".")[0] in {"__future__", "ml_collections", "configs"}
            assert known or name.startswith("segjax.autoconfig."), f"{path} imports {name}"


def test_import_segjax_imports_no_jax() -> None:
    code = (
        "import segjax, sys; bad = {'jax', 'flax', 'numpy', 'ml_collections'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_uninitialised_memory() -> None:
    for module, path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"empty", "empty_like"}:
                owner = ast.unparse(node.value)
                assert owner not in {"jnp", "jax.numpy"}, f"{module}: jnp.{node.attr} holds garbage from jax 0.11 on"


def test_no_update_at_slices_alone() -> None:
    """`x.at[:n]` has an empty index where that is all of x, which crashes jax 0.11's compiler in every `shard_map`."""
    for module, path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "at":
                parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                slices = [isinstance(part, ast.Slice) or ast.unparse(part) == "..." for part in parts]
                assert not all(slices), f"{module}: {ast.unparse(node)}; take lax.dynamic_update_slice"
