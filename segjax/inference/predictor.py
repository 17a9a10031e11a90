"""A trained network as a function from images to label maps.

    predictor = Predictor.from_checkpoint("runs/quickstart")
    prediction = predictor("street.png")
    prediction.save("labels.png")

Shape legend: B batch, H height, W width, C image channels, K classes.
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

from segjax.core.config import CRF, Config, from_dict
from segjax.core.errors import ConfigError, ModelError, SizeError
from segjax.core.registry import create_model
from segjax.core.schema import IGNORE, LOGITS, DatasetInfo
from segjax.data.augment import normalize
from segjax.inference import crf as dense_crf
from segjax.inference import draw
from segjax.inference.canvas import pad_batch, round_up
from segjax.inference.images import check_image, load_image
from segjax.inference.resized import resize_each, resized_side, resized_sizes
from segjax.inference.sliding_window import check_window, sliding_window
from segjax.inference.tta import average_views, single_view
from segjax.parallel.mesh import batch_shards
from segjax.parallel.sharding import replicated
from segjax.parallel.transfer import to_global
from segjax.postprocess.semantic import entropy, inside, labels_of, probabilities_of
from segjax.training.checkpoint import Saved, read_checkpoint

_SMALLEST = 1e-10  # probability whose logarithm a CRF is given


def seen_by(config: Config) -> dict[str, Any]:
    """How `config.eval` sees images, as keywords of `Predictor`."""
    names = ("batch_size", "scales", "flip", "window", "overlap", "blend", "crf")
    return {name: getattr(config.eval, name) for name in names}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    Attributes:
      labels: uint8 (int32 beyond 255 classes) [H, W], a class for every pixel, IGNORE where `info.void_class` wins.
      info: names and colours of the classes.
      probabilities: float32 [H, W, K], or None when not asked for.
    """

    labels: np.ndarray
    info: DatasetInfo
    probabilities: np.ndarray | None = None

    @property
    def entropy(self) -> np.ndarray:
        """float32 [H, W], nats: 0 where the network is sure, log K where it has no idea."""
        if self.probabilities is None:
            raise ConfigError("entropy needs probabilities: call predictor(image, probabilities=True).")
        return np.asarray(entropy(self.probabilities))

    def overlay(self, image: np.ndarray, alpha: float = 0.5) -> np.ndarray:
        """uint8 [H, W, 3]: the classes' colours over `image` [H, W, C]."""
        return draw.overlay(image, self.labels, self.info.palette, alpha)

    def without(self, void: np.ndarray | None) -> Prediction:
        """The same with labels of IGNORE under `void`, bool [H, W]; None: nowhere."""
        if void is None or not void.any():
            return self
        return dataclasses.replace(self, labels=np.where(void, np.asarray(IGNORE, self.labels.dtype), self.labels))

    def save(self, path: str | Path) -> Path:
        """Writes the labels as a PNG whose palette shows the classes' colours."""
        return draw.save_labels(path, self.labels, self.info.palette)


class Predictor:
    """Runs a network on images of any size, one compiled program for each padded size.

    Normalisation, scales, mirroring, windows and the argmax run on the device; what comes back is a byte a pixel.
    `predict_batch` is the one function behind prediction and evaluation.

    Attributes:
      info: the data set that the network was trained on.
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
        *,
        batch_size: int = 8,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        window: tuple[int, int] | None = None,
        overlap: float = 0.5,
        blend: str = "gaussian",
        crf: CRF | None = None,
        mesh: Mesh | None = None,
        config: Config | None = None,
        step: int | None = None,
    ):
        """
        Args:
          model: a `segjax.models.base.ImageNetwork`.
          variables: `params` and the other collections that `model.apply` needs.
          info: of the checkpoint: how pixels are resized and normalised, and which class means void.
          batch_size: images a forward pass.
          scales: the network sees the image at each of these.
          flip: average with the mirrored image.
          window: (height, width) of a sliding window, multiples of the stride; None sees the image whole.
          overlap: share of a window that the next one covers again.
          blend: `gaussian` or `uniform` weights of overlapping windows, or `centre`, which cuts them.
          crf: refine the scores with a dense CRF over the image, if enabled.
          mesh: spread batches over its devices; None runs on one.
          config: the run's, kept for those who ask.
          step: the checkpoint's.

        Raises:
          ConfigError, ModelError, SizeError: settings that do not fit the network.
        """
        if model.num_classes != info.num_classes:
            raise ModelError(
                f"the network has num_classes={model.num_classes}, data set {info.name!r} has {info.num_classes} "
                "classes; they must be the same."
            )
        if not scales or min(scales) <= 0:
            raise ConfigError(f"scales: {tuple(scales)} needs at least one scale, each above 0.")
        self.model, self.variables, self.info = model, variables, info
        self.stride, self.batch_size, self.mesh = model.stride, batch_size, mesh
        self.config, self.step = config, step
        self.scales, self.flip = tuple(float(scale) for scale in scales), flip
        self.window, self.overlap, self.blend = window, overlap, blend
        self.crf = crf if crf is not None and crf.enabled else None
        if self.crf is not None:
            dense_crf.check_settings(self.crf, info)
        if window is not None:
            check_window(window, self.stride)
        self._labels = jax.jit(lambda variables, images, sizes: self._forward(variables, images, sizes)[::2])
        self._scored = jax.jit(self._forward)

    @classmethod
    def from_checkpoint(cls, directory: str | Path, which: str = "best", **settings: Any) -> Predictor:
        """The network of a run; averaged parameters where the run kept them.

        Args:
          directory: a workdir, or its `checkpoints` folder.
          which: `best`, `last`, or a step.
          **settings: keywords of the constructor; the run's own evaluation settings by default.

        Raises:
          CheckpointError: no checkpoint there, or a damaged one.
        """
        return cls.from_saved(read_checkpoint(directory, which), **settings)

    @classmethod
    def from_saved(cls, saved: Saved, *, config: Config | None = None, **settings: Any) -> Predictor:
        """`from_checkpoint` of one that has been read; `config.eval` of `config`, where given, replaces the run's."""
        config = from_dict(saved.config) if config is None else config
        model = create_model(
            config.model.name,
            num_classes=saved.info.num_classes,
            in_channels=saved.info.channels,
            dtype=jnp.dtype(config.train.dtype),
            **config.model.options,
        )
        mesh = settings.get("mesh")
        variables = jax.device_put(saved.variables, None if mesh is None else replicated(mesh))
        return cls(
            model, variables, saved.info, **{**seen_by(config), "config": config, "step": saved.step, **settings}
        )

    def __call__(self, image: Any, probabilities: bool = False) -> Prediction:
        """Labels of one image.

        Args:
          image: [H, W, C] in RGB order and the pixel units of training, or the path of a file.
          probabilities: return them too.

        Raises:
          DataError: an unreadable file, or channels or values that are not what the network was trained on.
        """
        void = None
        if isinstance(image, str | Path):
            image, void = load_image(image, self.info, self.nodata)
        batch_size = 1 if self.mesh is None else batch_shards(self.mesh)
        found = self.predict([check_image(image, self.info)], batch_size=batch_size, probabilities=probabilities)[0]
        return found.without(void)

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
        probabilities: bool = False,
    ) -> list[Prediction]:
        """Labels of up to `batch_size` images, padded to one size and one full batch.

        Args:
          images: [H, W, C] each, checked (`segjax.inference.images.check_image`).
          canvas: (height, width) to pad to; default: what holds the largest.
          batch_size: default the predictor's.
        """
        if canvas is None:
            canvas = (max(image.shape[0] for image in images), max(image.shape[1] for image in images))
        canvas = round_up(canvas, self.stride)
        batch, sizes = pad_batch(images, canvas, batch_size or self.batch_size)
        shares: Any = [None] * len(images)
        if probabilities:
            labels, scores = self.score_batch(batch, sizes)
            shares = np.asarray(scores)
        else:
            labels = self.predict_batch(batch, sizes)
        labels = np.asarray(labels)
        found = []
        for i, image in enumerate(images):
            height, width = image.shape[:2]
            share = None if shares[i] is None else shares[i][:height, :width]
            found.append(Prediction(labels[i, :height, :width], self.info, share))
        return found

    def predict_batch(self, images: Any, sizes: Any = None) -> jax.Array:
        """Labels of a padded batch, on the device.

        Args:
          images: [B, H, W, C] raw pixels; H and W multiples of the stride.
          sizes: int [B, 2], each image's true (height, width); default: all of it.

        Returns:
          uint8 (int32 beyond 255 classes) [B, H, W], IGNORE outside an image's size and where `info.void_class` wins.

        Raises:
          SizeError: the CRF's lattice has overflowed.
        """
        return self._run(self._labels, images, sizes)[0]

    def score_batch(self, images: Any, sizes: Any = None) -> tuple[jax.Array, jax.Array]:
        """`predict_batch` and the probabilities float32 [B, H, W, K] behind it."""
        return self._run(self._scored, images, sizes)

    def with_variables(self, variables: Mapping[str, Any]) -> Predictor:
        """The same compiled programs with other parameters, for evaluation while training."""
        other = object.__new__(Predictor)
        other.__dict__.update(self.__dict__, variables=variables)
        return other

    def place(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch's numeric arrays on the device, or spread over the mesh."""
        if self.mesh is not None:
            return to_global(batch, self.mesh)
        arrays = {key: np.asarray(value) for key, value in batch.items()}
        return jax.device_put({key: value for key, value in arrays.items() if value.dtype.kind in "biuf"})

    def settings(self) -> dict[str, Any]:
        """How images are seen, for the record kept with a score."""
        names = ("batch_size", "scales", "flip", "window", "overlap", "blend")
        crf = None if self.crf is None else dataclasses.asdict(self.crf)
        return {**{name: getattr(self, name) for name in names}, "crf": crf}

    def _run(self, program: Any, images: Any, sizes: Any) -> tuple[Any, ...]:
        if sizes is None:
            sizes = np.tile(np.asarray(images.shape[1:3], np.int32), (images.shape[0], 1))
        if not isinstance(images, jax.Array):
            placed = self.place({"image": images, "size": np.asarray(sizes, np.int32)})
            images, sizes = placed["image"], placed["size"]
        # Operations that need a neighbour's rows find the mesh in the context.
        with contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh):
            *found, overflow = program(self.variables, images, sizes)
        if self.crf is not None and overflow[0]:  # waits for the batch
            raise SizeError(
                f"config.eval.crf: the lattice overflowed with {int(overflow[1]):,} vertices; set capacity to at least "
                "that, or larger theta_alpha and theta_beta."
            )
        return tuple(found)

    def _forward(self, variables: Any, images: jax.Array, sizes: jax.Array) -> tuple[Any, ...]:
        """Labels, probabilities, and whether and with how many vertices the CRF's lattice has overflowed."""
        info, (_, height, width, _) = self.info, images.shape
        normalised = normalize(images, info.mean, info.std, info.channel_order)
        # Padding is the mean pixel whatever the host filled it with.
        normalised = jnp.where(inside(sizes, height, width)[..., None], normalised, 0.0)
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
