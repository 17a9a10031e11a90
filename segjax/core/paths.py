"""How a pytree's leaves are called: in regexes of configs, messages and files."""

from __future__ import annotations

from typing import Any

import jax


def path_name(path: tuple[Any, ...]) -> str:
    """`encoder/stem/conv/kernel` for a pytree's key path."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Any) -> dict[str, Any]:
    """{path: leaf} of a pytree, paths as `path_name` writes them."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
