"""What a frozen encoder makes of the training images, computed once an image and kept on the host.

Shape legend: B this process's share of a batch, H height, W width, C image channels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.core.errors import ConfigError
from segjax.core.paths import named_leaves, path_name
from segjax.core.schema import IMAGE, SAMPLE, VALID
from segjax.parallel.mesh import DATA, line_mesh
from segjax.parallel.sharding import replicated
from segjax.tasks.base import Task, Transform
from segjax.training.forward import feature_key, forward, is_feature
from segjax.training.optim import frozen_mask
from segjax.training.state import TrainState

Batch = Mapping[str, Any]
KEY = "config.train.cache_features"


class FeatureCache:
    """Turns batches of images into batches of an encoder's features, from which the train step goes on.

    The encoder runs as in evaluation, on this process's devices, where a batch has an image that was not seen before;
    else rows are copied. Kept are the labels as augmentation leaves them and what training reads of encoder and image,
    in the type it is computed in. Each process keeps what it has met. A resumed run computes it again; of an image
    smaller than the crop at another random place in it.
    """

    def __init__(
        self,
        model: Any,
        task: Task,
        transform: Transform | None,
        state: TrainState,
        *,
        multipliers: Mapping[str, float],
        samples: int,
        mesh: Mesh,
    ) -> None:
        """
        Args:
          model: the network, a `models.base.ImageNetwork`.
          task: of the run.
          transform: augmentation; it is called with one key, once an image.
          state: of the run, with the encoder's parameters.
          multipliers: of the optimiser.
          samples: in the training split.
          mesh: of the run.

        Raises:
          ModelError: a network without an encoder of its own.
          ConfigError: an encoder that is trained.
        """
        inside = model.encoder_path() + "/"
        for name, frozen in named_leaves(frozen_mask(state.params, multipliers)).items():
            if name.startswith(inside) and not frozen:
                raise ConfigError(
                    f"{KEY}: {name} is trained; freeze it with config.optim.multipliers={{'^{inside}': 0}}, or set "
                    f"{KEY} to False."
                )
        variables = {"params": state.params, **state.model_state}
        leaves = named_leaves(variables)
        own = {name: leaf for name, leaf in leaves.items() if name.partition("/")[2].startswith(inside)}
        whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(own)
        self._own = {name: np.array(leaf.addressable_data(0)) for name, leaf in whole.items()}
        self._model, self._task, self._transform = model, task, transform
        self._shapes = jax.eval_shape(lambda tree: tree, variables)
        self._devices = list(mesh.local_devices)
        self._met = np.zeros(samples, bool)
        self._kept: dict[str, np.ndarray] = {}  # batch key -> [samples, ...]
        self._encode: Any = None

    def __call__(self, batch: Batch) -> dict[str, np.ndarray]:
        """A batch of `train_batches(numbered=True)` -> its labels, valid, features/..., and image where it is read.

        Raises:
          ConfigError: where what all samples need is more than this machine's memory.
        """
        samples = batch[SAMPLE]
        if not self._met[samples].all():
            self._meet(samples, {key: value for key, value in batch.items() if key != SAMPLE})
        return {VALID: batch[VALID]} | {key: rows[samples] for key, rows in self._kept.items()}

    def _meet(self, samples: np.ndarray, batch: Batch) -> None:
        mesh = line_mesh(DATA, self._devices[: math.gcd(len(self._devices), len(samples))])
        with jax.set_mesh(mesh):  # not the run's: other processes have met other images, and may not encode now
            batch = jax.device_put(batch, {key: NamedSharding(mesh, P(DATA)) for key in batch})
            if self._encode is None:
                self._own = jax.device_put(self._own, replicated(mesh))
                made = jax.eval_shape(self._encoded, self._own, batch)
                read = self._read(made)
                self._allocate({key: made[key] for key in read})
                self._encode = jax.jit(lambda own, batch: {key: self._encoded(own, batch)[key] for key in read})
            made = self._encode(self._own, batch)
        for key, rows in self._kept.items():
            rows[samples] = np.asarray(made[key])
        self._met[samples] = True
        if self._met.all():
            self._own, self._encode = {}, None  # the device's memory back

    def _encoded(self, own: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        """What could be kept: labels, image, every stage. All of the network is traced; the compiler drops the rest."""

        def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> jax.Array:
            name = path_name(path)
            return own[name] if name in own else jnp.zeros(shape.shape, shape.dtype)

        variables = jax.tree_util.tree_map_with_path(leaf, self._shapes)
        if self._transform is not None:
            batch = self._transform(jax.random.key(0), batch)
        features = self._model.apply(variables, batch[IMAGE], method="encode")
        kept = {key: value for key, value in batch.items() if key != VALID}
        return kept | {feature_key(key): value for key, value in features.items()}

    def _read(self, made: dict[str, jax.ShapeDtypeStruct]) -> list[str]:
        """The keys of `made` that training reads."""

        def outputs(made: Batch, params: Any, model_state: Any) -> Any:
            return forward(self._model, self._task, params, model_state, made, jax.random.key(0))

        model_state = {key: value for key, value in self._shapes.items() if key != "params"}
        traced = jax.make_jaxpr(outputs)(made, self._shapes["params"], model_state).jaxpr
        read = {var for equation in traced.eqns for var in equation.invars if not isinstance(var, Literal)}
        dropped = [IMAGE, *(key for key in made if is_feature(key))]
        return [key for key, var in zip(sorted(made), traced.invars) if key not in dropped or var in read]

    def _allocate(self, made: dict[str, jax.ShapeDtypeStruct]) -> None:
        shapes = {key: (len(self._met), *one.shape[1:]) for key, one in made.items()}
        needed = sum(math.prod(shapes[key]) * one.dtype.itemsize for key, one in made.items())
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > there:
            raise ConfigError(
                f"{KEY}: the features of {len(self._met)} images take {needed / 2**30:.1f} GiB, and this machine has "
                f"{there / 2**30:.1f}; set it to False, or take a smaller config.data.crop_size."
            )
        # The system gives pages as rows are written, so that samples other processes meet take none.
        self._kept = {key: np.empty(shapes[key], one.dtype) for key, one in made.items()}
