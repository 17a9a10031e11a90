"""A run's task, its evaluation, and the record and report it ends with: what the verbs train and evaluate share."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from segjax.core.config import Config, to_dict
from segjax.core.errors import ConfigError, SizeError
from segjax.core.schema import DatasetInfo
from segjax.data.dataset import Dataset, Source
from segjax.data.pipeline import eval_batches
from segjax.inference.evaluate import evaluate, of_predictor, save_results
from segjax.inference.predictor import Predictor
from segjax.inference.provenance import provenance
from segjax.inference.samples import best_and_worst
from segjax.inference.table import print_scores
from segjax.losses import get_loss
from segjax.losses.class_weights import class_weights
from segjax.parallel.transfer import local_rows
from segjax.report.page import write_report
from segjax.tasks.semantic import SemanticTask
from segjax.training.checkpoint import read_checkpoint


def make_task(config: Config, dataset: Dataset) -> SemanticTask:
    """The semantic task of a config, its class weights counted on the training split."""
    weights = config.loss.class_weights
    if isinstance(weights, tuple):
        if len(weights) != dataset.info.num_classes:
            raise ConfigError(
                f"config.loss.class_weights: {len(weights)} numbers, {dataset.info.num_classes} classes; give one each."
            )
    elif weights == "none":
        weights = None
    else:
        pixels, present = dataset.class_counts(config.data.train_split)
        with warnings.catch_warnings(record=True) as caught:
            weights = tuple(class_weights(weights, pixels, present, classes=dataset.info.classes).tolist())
        for warning in caught:
            print(f"warning: {warning.message}", flush=True)
    return SemanticTask(
        num_classes=dataset.info.num_classes,
        loss_name=get_loss(config.loss.name, **config.loss.options),
        label_smoothing=config.loss.label_smoothing,
        class_weights=weights,
        aux_weight=config.loss.aux_weight,
        border_weight=config.loss.border_weight,
        void=config.eval.void,
        classes=dataset.info.classes,
        boundary=config.eval.boundary,
    )


def check_sizes(config: Config, stride: int) -> None:
    """Raises SizeError when the crop does not fit the network's stride, before anything is compiled."""
    height, width = config.data.crop_size
    rows, columns = math.ceil(height / stride) * stride, math.ceil(width / stride) * stride
    if (rows, columns) != (height, width):
        raise SizeError(
            f"config.data.crop_size: {height}x{width} is not a multiple of {config.model.name}'s stride {stride}; "
            f"use ({rows}, {columns})."
        )


class Scorer:
    """Scores parameters on a split, through the same program that predicts."""

    def __init__(
        self,
        model: Any,
        task: SemanticTask,
        info: DatasetInfo,
        config: Config,
        mesh: Any,
        on_batch: Callable[[int], None] | None = None,
    ):
        self._task, self._config, self._info, self._on_batch = task, config, info, on_batch
        self._predictor = Predictor(
            model,
            {},
            info,
            batch_size=config.eval.batch_size,
            scales=config.eval.scales,
            flip=config.eval.flip,
            window=config.eval.window,
            overlap=config.eval.overlap,
            blend=config.eval.blend,
            crf=config.eval.crf,
            mesh=mesh if mesh.size > 1 else None,
            config=config,
        )

    def of_config(self, config: Config) -> Scorer:
        """The same compiled programs for a run that differs in nothing that evaluation sees."""
        other = copy.copy(self)
        other._config = config
        return other

    def score(self, source: Source, variables: Mapping[str, Any], per_image: bool = False) -> dict[str, Any]:
        """`segjax.inference.evaluate.evaluate` of one split."""
        predictor = self._predictor.with_variables(variables)
        return evaluate(
            of_predictor(predictor),
            eval_batches(
                source,
                batch_size=predictor.batch_size,
                size=self._config.eval.size,
                multiple=predictor.stride,
                threads=self._config.data.threads,
                rows=None if predictor.mesh is None else local_rows(predictor.batch_size, predictor.mesh),
            ),
            self._task,
            place=predictor.place,
            per_image=per_image,
            on_batch=self._on_batch,
        )

    def finish(self, source: Source, split: str, workdir: Path) -> None:
        """Scores the best checkpoint, keeps `results.json` and `report.html` in the workdir, prints the table."""
        saved = read_checkpoint(workdir, "best")
        results = self.score(source, saved.variables, per_image=True)
        if jax.process_index() != 0:
            return
        record = {
            "kind": "evaluation",
            "dataset": self._info.name,
            "split": split,
            "void": self._config.eval.void,
            "checkpoint": str(workdir),
            "step": saved.step,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(saved.variables["params"])),
            "viewing": self._predictor.settings(),
            **results,
            **provenance(),
        }
        save_results(workdir / "results.json", record)
        predictor = self._predictor.with_variables(saved.variables)
        canvas = self._config.eval.size or source.largest
        best, worst = best_and_worst(predictor, source, results.get("per_image", []), self._config.eval.samples, canvas)
        page = write_report(
            workdir, results=record, info=self._info, config=to_dict(self._config), best=best, worst=worst
        )
        print(f"report: {page}", flush=True)
        print_scores(results["metrics"], f"{workdir} (step {saved.step}) on {self._info.name} {split}")
