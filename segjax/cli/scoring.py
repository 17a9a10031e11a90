"""A run's evaluation, and the record and report it ends with: what the verbs train and evaluate share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from segjax.core.config import Config, to_dict
from segjax.core.schema import DatasetInfo
from segjax.data.dataset import Source
from segjax.data.pipeline import eval_batches
from segjax.inference.evaluate import evaluate, of_predictor, save_results
from segjax.inference.predictor import Predictor, seen_by
from segjax.inference.provenance import provenance
from segjax.inference.samples import best_and_worst
from segjax.inference.table import print_scores
from segjax.parallel.transfer import local_rows
from segjax.report.page import write_report
from segjax.tasks.semantic import SemanticTask
from segjax.training.checkpoint import read_checkpoint


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
        mesh = mesh if mesh.size > 1 else None
        self._predictor = Predictor(model, {}, info, mesh=mesh, config=config, **seen_by(config))

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
