"""A run's evaluation, and the record and report it ends with: what the verbs train and evaluate share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from segjax.cli.assembly import Run, scored_batches
from segjax.core.config import Config, to_dict
from segjax.data.dataset import Source
from segjax.inference.evaluate import evaluate, of_engine, save_results
from segjax.inference.predictor import make_engine
from segjax.inference.provenance import provenance
from segjax.inference.samples import best_and_worst
from segjax.inference.table import print_scores
from segjax.report.page import write_report
from segjax.training.checkpoint import read_checkpoint


class Scorer:
    """Scores parameters on a split, through the same program that predicts."""

    def __init__(self, run: Run, on_batch: Callable[[int], None] | None = None):
        self._run, self._on_batch = run, on_batch
        mesh = run.mesh if run.mesh.size > 1 else None
        self._engine = make_engine(run.model, {}, run.info, run.config, mesh=mesh)

    def score(self, source: Source, variables: Mapping[str, Any], per_image: bool = False) -> dict[str, Any]:
        """`segjax.inference.evaluate.evaluate` of one split."""
        run, engine = self._run, self._engine.with_variables(variables)
        return evaluate(
            of_engine(engine),
            scored_batches(source, run.task, run.info, run.config, stride=engine.stride, mesh=engine.mesh),
            run.task,
            place=engine.place,
            per_image=per_image,
            on_batch=self._on_batch,
        )

    def finish(self, source: Source, split: str, workdir: Path) -> None:
        """Scores the best checkpoint, keeps `results.json` and `report.html` in the workdir, prints the table."""
        config, info = self._run.config, self._run.info
        saved = read_checkpoint(workdir, "best")
        results = self.score(source, saved.variables, per_image=True)
        if jax.process_index() != 0:
            return
        record = {
            "kind": "evaluation",
            "dataset": info.name,
            "split": split,
            **conventions(config),
            "checkpoint": str(workdir),
            "step": saved.step,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(saved.variables["params"])),
            "viewing": self._engine.settings(),
            **results,
            **provenance(),
        }
        save_results(workdir / "results.json", record)
        engine = self._engine.with_variables(saved.variables)
        canvas = config.eval.size or source.largest
        best, worst = best_and_worst(engine, source, results.get("per_image", []), config.eval.samples, canvas)
        page = write_report(
            workdir, view=engine.view, results=record, info=info, config=to_dict(config), best=best, worst=worst
        )
        print(f"report: {page}", flush=True)
        print_scores(engine.view, results["metrics"], f"{workdir} (step {saved.step}) on {info.name} {split}")


def conventions(config: Config) -> dict[str, str]:
    """What a score's record must say of how it was counted: `void`, of tasks that have such a setting."""
    return {name: getattr(config.eval, name) for name in ("void",) if hasattr(config.eval, name)}
