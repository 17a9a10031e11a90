"""A network with its task's post-processing as a function from images, or clouds, to predictions.

Shape legend: B batch, H height, W width, C image channels.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from segjax.core.config import Config
from segjax.core.errors import ModelError
from segjax.core.fields import cut
from segjax.core.schema import IMAGE, NAME, POINTS, SIZE, DatasetInfo
from segjax.data.augment import normalize
from segjax.inference.canvas import pad_batch, round_up
from segjax.inference.images import check_image, load_image
from segjax.ops.geometry import inside
from segjax.parallel.mesh import batch_shards
from segjax.parallel.transfer import numeric, to_global
from segjax.tasks import make_view
from segjax.tasks.base import Batch, Predictions, Task

_ROUNDED = 1024  # clouds of more points than the data set's are padded to multiples of it


class Engine:
    """Runs a network on images or clouds of any size, one compiled program for each padded size.

    Normalisation, network and post-processing run on the device. `predictions` is the one function behind prediction
    and evaluation.

    Attributes:
      info: the data set that the network was trained on.
      task: what makes predictions of its outputs; `view` writes and draws them.
      stride: padded sizes are multiples of it.
      batch_size: images a forward pass, as evaluation uses.
      config: the checkpoint's Config, or None.
      step: the checkpoint's step, or None.
    """

    def __init__(
        self,
        model: Any,
        variables: Mapping[str, Any],
        info: DatasetInfo,
        task: Task,
        *,
        batch_size: int = 8,
        mesh: Mesh | None = None,
        config: Config | None = None,
        step: int | None = None,
    ):
        """
        Args:
          model: a `segjax.models.base.Network`.
          variables: `params` and the other collections that `model.apply` needs.
          info: of the checkpoint.
          task: the network's.
          batch_size: images a forward pass.
          mesh: spread batches over its devices; None runs on one.
          config: the run's, kept for those who ask.
          step: the checkpoint's.

        Raises:
          ModelError: a network of another number of classes.
        """
        if model.num_classes != task.num_classes_of(info):
            raise ModelError(
                f"the network has num_classes={model.num_classes}, data set {info.name!r} has "
                f"{task.num_classes_of(info)} classes; they must be the same."
            )
        self.model, self.variables, self.info, self.task = model, variables, info, task
        self.view = make_view(task.name)
        self.stride, self.batch_size, self.mesh = model.stride, batch_size, mesh
        self.config, self.step = config, step
        self._program = jax.jit(self._forward)

    def __call__(self, image: Any, **options: Any) -> Any:
        """The prediction of one image or cloud, as the task's view has it.

        Args:
          image: [H, W, C] in RGB order and the pixel units of training, or the path of a file; for a task of clouds a
            sample, `{"points": [P, C], "category": int}`.
          **options: of `predict`.

        Raises:
          DataError: an unreadable file, or channels or values that are not what the network was trained on.
        """
        if self.task.subject != IMAGE:
            return self.predict_samples([image], **options)[0]
        void = None
        if isinstance(image, str | Path):
            image, void = load_image(image, self.info, self.nodata)
        batch_size = 1 if self.mesh is None else batch_shards(self.mesh)
        return self.predict([check_image(image, self.info)], batch_size=batch_size, **options)[0].without(void)

    @property
    def nodata(self) -> Any:
        """The data set's option of that name: pixel values that are no measurement, besides those a TIFF declares."""
        return None if self.config is None else self.config.data.options.get("nodata")

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        canvas: tuple[int, int] | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> list[Any]:
        """The predictions of up to `batch_size` images, padded to one size and one full batch.

        Args:
          images: [H, W, C] each, checked (`segjax.inference.images.check_image`).
          canvas: (height, width) to pad to; default: what holds the largest.
          batch_size: default the engine's.
          **options: of `predictions`.
        """
        if canvas is None:
            canvas = (max(image.shape[0] for image in images), max(image.shape[1] for image in images))
        batch, sizes = pad_batch(images, round_up(canvas, self.stride), batch_size or self.batch_size)
        found = jax.tree.map(np.asarray, self.predictions(self.place({IMAGE: batch, SIZE: sizes}), **options))
        return [
            self.view.prediction({key: value[i] for key, value in found.items()}, image.shape[:2], self.info)
            for i, image in enumerate(images)
        ]

    def predict_samples(
        self, samples: Sequence[Mapping[str, Any]], *, canvas: tuple[int, int] | None = None, **options: Any
    ) -> list[Any]:
        """The predictions of up to `batch_size` samples as a data set has them; annotations may be missing.

        Args:
          samples: with the task's `subject`.
          canvas: of `predict`, for images.
          **options: of `predictions`.
        """
        if IMAGE in samples[0]:
            images = [check_image(sample[IMAGE], self.info, sample.get(NAME, "image")) for sample in samples]
            return self.predict(images, canvas=canvas, **options)
        counts = [len(sample[POINTS]) for sample in samples]
        most = -(-max(counts) // _ROUNDED) * _ROUNDED if max(counts) > self.info.max_points else self.info.max_points
        fields = self.task.fields(dataclasses.replace(self.info, max_points=most), None, False)
        arrays = [self.task.collate(dict(sample)) for sample in samples]
        lacking = self.batch_size - len(samples)
        batch = {
            key: np.stack(
                [*(cut(one[key], field) for one in arrays), *[np.full(field.shape, field.fill, field.dtype)] * lacking]
            )
            for key, field in fields.items()
        }
        found = jax.tree.map(np.asarray, self.predictions(self.place(batch), **options))
        return [
            self.view.prediction({key: value[i] for key, value in found.items()}, (count,), self.info)
            for i, count in enumerate(counts)
        ]

    def predictions(self, batch: Batch) -> Predictions:
        """What the task predicts of a padded batch, on the device.

        Args:
          batch: of `place`, with the task's `predicted_from`: of images `image` [B, H, W, C] raw pixels, H and W
            multiples of the stride, and `size` int [B, 2].
        """
        return self.run(self._program, batch)

    def run(self, program: Any, batch: Batch) -> Any:
        """program(variables, what the task predicts from), where operations that need a neighbour's rows find the mesh
        in the context."""
        batch = {key: batch[key] for key in self.task.predicted_from}
        with contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh):
            return program(self.variables, batch)

    def with_variables(self, variables: Mapping[str, Any]) -> Any:
        """The same compiled programs with other parameters, for evaluation while training."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, variables=variables)
        return other

    def place(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch's numeric arrays on the device, or spread over the mesh."""
        return jax.device_put(numeric(batch)) if self.mesh is None else to_global(batch, self.mesh)

    def settings(self) -> dict[str, Any]:
        """How images are seen, for the record kept with a score."""
        return {"batch_size": self.batch_size}

    def normalised(self, batch: Batch) -> jax.Array:
        """float32 [B, H, W, C]: the batch's images, 0, the mean pixel, outside their size whatever the host filled."""
        info, (_, height, width, _) = self.info, batch[IMAGE].shape
        images = normalize(batch[IMAGE], info.mean, info.std, info.channel_order)
        return jnp.where(inside(batch[SIZE], height, width)[..., None], images, 0.0)

    def _forward(self, variables: Any, batch: Batch) -> Predictions:
        seen = {**batch, IMAGE: self.normalised(batch)} if IMAGE in batch else batch
        args, kwargs = self.task.inputs(seen, train=False)
        return self.task.predict(self.model.apply(variables, *args, **kwargs, train=False), batch)
