"""segjax: image segmentation in JAX and Flax, for TPU pods and GPUs.

The names below import what they need when first used, so that `import segjax` imports no jax.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "create_model": "segjax.core.registry",
    "list_models": "segjax.core.registry",
    "init_variables": "segjax.training.state",
    "load_config": "segjax.core.config",
    "load_weights": "segjax.convert.mapping",
    "Predictor": "segjax.inference.predictor",
}
__all__ = ["Predictor", "__version__", "create_model", "init_variables", "list_models", "load_config", "load_weights"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'segjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
