"""A trained network as a function from images to label maps.

    predictor = Predictor.from_checkpoint("runs/quickstart")
    prediction = predictor("street.png")
    prediction.save("labels.png")

Shape legend: B batch, H height, W width, C image channels, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.config import Config, from_dict
from segjax.core.errors import ConfigError, SizeError
from segjax.core.schema import IMAGE, LABEL, LOGITS, SIZE, DatasetInfo
from segjax.inference import crf as dense_crf
from segjax.inference.canvas import round_up
from segjax.inference.engine import Engine
from segjax.inference.resized import resize_each, resized_side, resized_sizes
from segjax.inference.sliding_window import check_window, sliding_window
from segjax.inference.tta import average_views, single_view
from segjax.ops.geometry import inside
from segjax.parallel.sharding import replicated
from segjax.postprocess.semantic import labels_of, probabilities_of
from segjax.tasks import make_network, make_task
from segjax.tasks.base import Batch, Predictions
from segjax.tasks.semantic.config import CRF
from segjax.tasks.semantic.task import SemanticTask
from segjax.tasks.semantic.view import PROBABILITIES
from segjax.training.checkpoint import Saved, read_checkpoint

_SMALLEST = 1e-10  # probability whose logarithm a CRF is given


def make_engine(model: Any, variables: Mapping[str, Any], info: DatasetInfo, config: Config, **options: Any) -> Engine:
    """The engine of a config's task: a `Predictor` with the settings of `config.eval`, or an `Engine`.

    Args:
      model, variables, info: as `Engine` takes them.
      config: the run's.
      **options: further keywords.
    """
    if config.task == SemanticTask.name:
        return Predictor(model, variables, info, **{**seen_by(config), "config": config, **options})
    options = {"batch_size": config.eval.batch_size, "config": config, **options}
    return Engine(model, variables, info, make_task(config, info), **options)


def seen_by(config: Config) -> dict[str, Any]:
    """How `config.eval` sees images, as keywords of `Predictor`."""
    names = ("batch_size", "scales", "flip", "window", "overlap", "blend", "crf")
    return {name: getattr(config.eval, name) for name in names}


class Predictor(Engine):
    """The engine of networks with a score for every pixel and class: scales, mirroring, windows and a CRF come between
    network and labels, all on the device; what comes back is a byte a pixel."""

    def __init__(
        self,
        model: Any,
        variables: Mapping[str, Any],
        info: DatasetInfo,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        window: tuple[int, int] | None = None,
        overlap: float = 0.5,
        blend: str = "gaussian",
        crf: CRF | None = None,
        **engine: Any,
    ):
        """
        Args:
          model: a `segjax.models.base.ImageNetwork`.
          variables: `params` and the other collections that `model.apply` needs.
          info: of the checkpoint: how pixels are resized and normalised, and which class means void.
          scales: the network sees the image at each of these.
          flip: average with the mirrored image.
          window: (height, width) of a sliding window, multiples of the stride; None sees the image whole.
          overlap: share of a window that the next one covers again.
          blend: `gaussian` or `uniform` weights of overlapping windows, or `centre`, which cuts them.
          crf: refine the scores with a dense CRF over the image, if enabled.
          **engine: further keywords of `Engine`.

        Raises:
          ConfigError, ModelError, SizeError: settings that do not fit the network.
        """
        task = SemanticTask(info.num_classes, void_class=info.void_class, classes=info.classes)
        super().__init__(model, variables, info, task, **engine)
        if not scales or min(scales) <= 0:
            raise ConfigError(f"scales: {tuple(scales)} needs at least one scale, each above 0.")
        self.scales, self.flip = tuple(float(scale) for scale in scales), flip
        self.window, self.overlap, self.blend = window, overlap, blend
        self.crf = crf if crf is not None and crf.enabled else None
        if self.crf is not None:
            dense_crf.check_settings(self.crf, info)
        if window is not None:
            check_window(window, self.stride)
        self._program = jax.jit(lambda variables, batch: self._scored(variables, batch)[::2])
        self._with_scores = jax.jit(self._scored)

    @classmethod
    def from_checkpoint(cls, directory: str | Path, which: str = "best", **settings: Any) -> Engine:
        """The network of a run; averaged parameters where the run kept them. A `Predictor`, or the `Engine` of a task
        without scores for every pixel.

        Args:
          directory: a workdir, or its `checkpoints` folder.
          which: `best`, `last`, or a step.
          **settings: keywords of the constructor; the run's own evaluation settings by default.

        Raises:
          CheckpointError: no checkpoint there, or a damaged one.
        """
        return cls.from_saved(read_checkpoint(directory, which), **settings)

    @classmethod
    def from_saved(cls, saved: Saved, *, config: Config | None = None, **settings: Any) -> Engine:
        """`from_checkpoint` of one that has been read; `config.eval` of `config`, where given, replaces the run's."""
        config = from_dict(saved.config) if config is None else config
        model = make_network(config, saved.info)
        mesh = settings.get("mesh")
        variables = jax.device_put(saved.variables, None if mesh is None else replicated(mesh))
        return make_engine(model, variables, saved.info, config, step=saved.step, **settings)

    def predictions(self, batch: Batch, probabilities: bool = False) -> Predictions:
        """`label` [B, H, W] and, if asked for, `probabilities` float32 [B, H, W, K]; see `Engine.predictions`.

        `label` is uint8 (int32 beyond 255 classes), IGNORE outside an image's size and where `info.void_class` wins.

        Raises:
          SizeError: the CRF's lattice has overflowed.
        """
        *found, overflow = self.run(self._with_scores if probabilities else self._program, batch)
        if self.crf is not None and overflow[0]:  # waits for the batch
            raise SizeError(
                f"config.eval.crf: the lattice overflowed with {int(overflow[1]):,} vertices; set capacity to at least "
                "that, or larger theta_alpha and theta_beta."
            )
        return dict(zip((LABEL, PROBABILITIES), found))

    def predict_batch(self, images: Any, sizes: Any = None) -> jax.Array:
        """Labels of a padded batch, on the device.

        Args:
          images: [B, H, W, C] raw pixels; H and W multiples of the stride.
          sizes: int [B, 2], each image's true (height, width); default: all of it.
        """
        return self.predictions(self._batch(images, sizes))[LABEL]

    def score_batch(self, images: Any, sizes: Any = None) -> tuple[jax.Array, jax.Array]:
        """`predict_batch` and the probabilities float32 [B, H, W, K] behind it."""
        found = self.predictions(self._batch(images, sizes), probabilities=True)
        return found[LABEL], found[PROBABILITIES]

    def settings(self) -> dict[str, Any]:
        """How images are seen, for the record kept with a score."""
        names = ("scales", "flip", "window", "overlap", "blend")
        crf = None if self.crf is None else dataclasses.asdict(self.crf)
        return {**super().settings(), **{name: getattr(self, name) for name in names}, "crf": crf}

    def _batch(self, images: Any, sizes: Any) -> Batch:
        if sizes is None:
            sizes = np.tile(np.asarray(images.shape[1:3], np.int32), (images.shape[0], 1))
        if isinstance(images, jax.Array):
            return {IMAGE: images, SIZE: sizes}
        return self.place({IMAGE: images, SIZE: np.asarray(sizes, np.int32)})

    def _scored(self, variables: Any, batch: Batch) -> tuple[Any, ...]:
        """Labels, probabilities, and whether and with how many vertices the CRF's lattice has overflowed."""
        info, images, sizes = self.info, batch[IMAGE], batch[SIZE]
        height, width = images.shape[1:3]
        normalised = self.normalised(batch)
        if info.resize is not None:
            normalised, shown = self._resized(normalised, sizes)

        def network(views: jax.Array) -> jax.Array:
            return self.model.apply(variables, views, train=False)[LOGITS].upsample()

        def windowed(views: jax.Array) -> jax.Array:
            places = {"window": self.window, "overlap": self.overlap, "stride": self.stride}
            return sliding_window(network, views, blend=self.blend, **places)

        see = network if self.window is None else windowed
        alone = single_view(self.scales, self.flip)
        if alone:
            scores = see(normalised)
        else:
            scores = average_views(see, normalised, scales=self.scales, flip=self.flip, stride=self.stride)
        if info.resize is not None:  # the scores of an image's own pixels
            corners = info.resize.align_corners
            scores = resize_each(scores.astype(jnp.float32), shown, sizes, (height, width), align_corners=corners)
        overflow = ()
        if self.crf is not None:
            logits = scores if alone else jnp.log(jnp.maximum(scores, _SMALLEST))
            scores, *overflow = dense_crf.refine(logits, images, sizes, self.crf, info)
        # The labels are read off the same stored numbers whether or not probabilities are asked for, so that both
        # programs agree to the bit; without it XLA may fuse, and round, each its own way.
        scores = jax.lax.optimization_barrier(scores)
        probabilities = probabilities_of(scores) if alone or self.crf is not None else scores
        return labels_of(scores, sizes, info.void_class), probabilities, tuple(overflow)

    def _resized(self, images: jax.Array, sizes: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Normalised images as `info.resize` has the network see them, padded with zeros, and their sizes there."""
        resize, size = self.info.resize, images.shape[1:3]
        shown = resized_sizes(sizes, size, resize)
        canvas = round_up(tuple(resized_side(n, resize, axis) for axis, n in enumerate(size)), self.stride)
        options = {"align_corners": resize.align_corners, "antialias": resize.antialias}
        images = resize_each(images, sizes, shown, canvas, method=resize.method, **options)
        return jnp.where(inside(shown, *canvas)[..., None], images, 0.0), shown
