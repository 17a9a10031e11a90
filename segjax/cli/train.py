"""Train a network, evaluate it, and leave checkpoints, logs and a report in a workdir."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from segjax.cli.runtime import add_process_arguments, join, prepare_jax

if TYPE_CHECKING:
    from segjax.core.config import Config
    from segjax.parallel.watchdog import Watchdog

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE.py[:arg]", required=True, help="Python file with get_config()")
    parser.add_argument("--workdir", metavar="DIR", help="where the run is kept; default runs/NAME")
    parser.add_argument("--resume", action="store_true", help="go on from the workdir's last checkpoint")
    add_process_arguments(parser)
    parser.epilog = "Any key of the config can be set as --config.key=value, such as --config.train.steps=100."


def run(args: argparse.Namespace) -> int:
    from segjax.cli.adapting import adapt_to_data
    from segjax.core.config import load_config
    from segjax.core.lock import owned
    from segjax.core.registry import resolve

    # --- What can be wrong is looked at before anything heavy is imported.
    config = load_config(args.config, args.overrides, adapting=True)
    resolve(config.model.name)
    workdir = Path(args.workdir or f"runs/{config.name}")

    prepare_jax()
    with join(args, config.parallel) as watchdog, owned(workdir, active=watchdog.process == 0):
        config = adapt_to_data(config, args, workdir)
        return _train(config, workdir, args.resume, watchdog)


def _train(config: Config, workdir: Path, resume: bool, watchdog: Watchdog) -> int:
    from segjax.cli import scoring
    from segjax.cli.assembly import build
    from segjax.core.config import best_metric
    from segjax.core.errors import EXIT_RESUME, ConfigError
    from segjax.data.dataset import open_dataset
    from segjax.parallel.transfer import check_batch_size
    from segjax.training.loop import train

    # --- Data, network, task.
    dataset = open_dataset(config.data)
    splits = [config.eval.split, config.eval.final_split or config.eval.split]
    scored = {name: dataset.split(name) for name in splits}
    run = build(config, dataset)
    for name in splits:
        run.task.check_scored(dataset, name)
    check_batch_size(config.train.batch_size, run.mesh, accumulate=config.train.accumulate)
    task, best = run.task, best_metric(config)
    if best not in task.metric_result(task.metric_init()):  # which only the first evaluation would find
        raise ConfigError(f"config.checkpoint.best: the task {task.name!r} has no score {best!r}; set {task.score!r}.")

    # --- Train, scoring the validation split on the way.
    scorer = scoring.Scorer(run, on_batch=lambda images: watchdog.at(doing="evaluation"))
    batches = run.batches()
    result = train(
        config,
        model=run.model,
        task=run.task,
        transform=run.transform,
        batches=batches,
        info=run.info,
        steps=run.steps,
        workdir=workdir,
        samples=run.samples,
        evaluate=lambda state: scorer.score(scored[splits[0]], state.eval_variables)["metrics"],
        resume=resume,
        watchdog=watchdog,
    )
    batches.close()
    if result.interrupted is not None:
        return EXIT_RESUME

    # --- The best checkpoint, on the final split; the report.
    watchdog.at(doing="final evaluation", patient=True)
    scorer.finish(scored[splits[1]], splits[1], workdir)
    return 0
