"""Score a checkpoint, or label PNGs already written, on a data set."""

from __future__ import annotations

import argparse

from segjax.cli.runtime import add_process_arguments, join, prepare_jax

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from segjax.cli import viewing

    parser.add_argument("--checkpoint", metavar="DIR", help="a run's workdir, or its checkpoints folder")
    parser.add_argument("--which", default="best", metavar="best|last|STEP", help="which checkpoint; default best")
    parser.add_argument("--predictions", metavar="DIR", help="score DIR/NAME.png instead of running the network")
    parser.add_argument("--split", help="split to score; default: the one the run ended with")
    parser.add_argument("--void", help="how void pixels count: ignore, union or drop")
    parser.add_argument(
        "--classes-differ",
        action="store_true",
        help="score though the class names are not the data set's: class 0 as class 0, and so on",
    )
    parser.add_argument("--output", metavar="FILE.json", help="also keep the scores, image by image, as JSON")
    viewing.add_arguments(parser)
    add_process_arguments(parser)
    parser.epilog = (
        "The data set is the checkpoint's; config.data, config.eval and config.parallel can be overridden, such as "
        "--config.data.root=DIR. With --predictions and no --checkpoint, --config.data.name names the set. Classes are "
        "matched by name; where the names are the same in another order, each is scored under its own."
    )


def run(args: argparse.Namespace) -> int:
    from segjax.core.config import to_dict
    from segjax.core.errors import ConfigError

    if args.checkpoint is None and args.predictions is None:
        raise ConfigError("--checkpoint or --predictions is needed: what is to be scored?")
    record = None
    if args.checkpoint is None:
        record = to_dict(overridden({}, args.overrides))
    else:
        for key in args.overrides:
            if key.split(".")[0] not in ("data", "eval", "parallel"):
                raise ConfigError(f"--config.{key}: the checkpoint fixes it; only data, eval and parallel can change.")

    prepare_jax()
    if args.predictions is not None:  # label files are counted by one process
        return _evaluate(args, record)
    mine = {key: text for key, text in args.overrides.items() if key.startswith("parallel.")}
    with join(args, overridden({}, mine).parallel):
        return _evaluate(args, record)


def _evaluate(args: argparse.Namespace, record: dict | None) -> int:
    from pathlib import Path

    import jax

    from segjax.cli import viewing
    from segjax.cli.assembly import scored_batches
    from segjax.cli.progress import progress
    from segjax.cli.scoring import conventions
    from segjax.core.config import from_dict, to_dict
    from segjax.core.errors import ConfigError
    from segjax.data.builders import NAMES, layout
    from segjax.data.dataset import open_dataset
    from segjax.inference.evaluate import evaluate, of_engine, renumbered, save_results
    from segjax.inference.predictor import Predictor
    from segjax.inference.provenance import provenance
    from segjax.inference.table import print_scores
    from segjax.inference.written import Written, meaning
    from segjax.parallel.mesh import make_mesh
    from segjax.parallel.transfer import check_batch_size
    from segjax.tasks import make_task, make_view
    from segjax.training.checkpoint import read_checkpoint

    # --- The run's config, with what the command line changes.
    saved = None
    if args.checkpoint is not None:
        saved = read_checkpoint(args.checkpoint, args.which)
        record = to_dict(overridden(saved.config, args.overrides))
    viewing.update(record["eval"], args)
    if args.void is not None:
        record["eval"]["void"] = args.void
    config = from_dict(record)
    split = args.split or config.eval.final_split or config.eval.split

    # --- Data and task.
    dataset = open_dataset(config.data)
    source, info = dataset.split(split), dataset.info
    if saved is not None and args.predictions is None:
        for what in ("channels", "image_dtype"):
            theirs, ours = getattr(saved.info, what), getattr(info, what)
            if theirs != ours:
                raise ConfigError(
                    f"{what}: the data set {info.name!r} has {ours}, the checkpoint {args.checkpoint} {theirs}; "
                    f"evaluate on the set it was trained for ({saved.info.name!r})."
                )
    classes, colours, void, owner = _written_by(args, saved, info)
    table = _matched(args, classes, void, owner, info)
    task = make_task(config, info)
    task.check_scored(dataset, split)

    # --- What predicts: the network, or a folder of label PNGs.
    if args.predictions is not None:
        of_set = layout(config.data.name, config.data.root, config.data.options) if config.data.name in NAMES else None
        suffix = config.data.options.get("label_suffix", "")
        written = Written(meaning(args.predictions, classes, colours, of_set), suffix)
        predict, place, stride, mesh = written, jax.device_put, 1, None
        what, extra = args.predictions, {"predictions": args.predictions}
    else:
        mesh = make_mesh(config.parallel.data, config.parallel.spatial, config.parallel.fsdp)
        check_batch_size(config.eval.batch_size, mesh, key="config.eval.batch_size")
        mesh = mesh if mesh.size > 1 else None
        predictor = Predictor.from_saved(saved, config=config, mesh=mesh)
        predict, place, stride = of_engine(predictor), predictor.place, predictor.stride
        what, extra = f"{args.checkpoint} (step {saved.step})", {"checkpoint": args.checkpoint, "step": saved.step}
        extra["viewing"] = predictor.settings()
    predict = renumbered(predict, table)

    with progress(len(source), f"evaluate {info.name} {split}") as advance:
        results = evaluate(
            predict,
            scored_batches(source, task, info, config, stride=stride, mesh=mesh),
            task,
            place=place,
            on_batch=advance,
        )
    if args.predictions is not None:
        written.check()
    if jax.process_index() != 0:
        return 0
    if args.output is not None:
        kept = {"kind": "evaluation", "dataset": info.name, "split": split, **conventions(config), **extra}
        save_results(Path(args.output), {**kept, **results, **provenance()})
        print(f"scores kept in {args.output}")
    title = f"{what} on {info.name} {split}: {results['images']} images"
    title += "".join(f", {name}: {value}" for name, value in conventions(config).items())
    print_scores(make_view(task.name), results["metrics"], title)
    return 0


def _written_by(args, saved, info):
    """Of the classes that labels to be scored have: names, colours if known, which is void, and whose list that is."""
    from pathlib import Path

    from segjax.data.class_list import parse_class_list

    if args.predictions is not None and (Path(args.predictions) / "classes.txt").is_file():
        listing = Path(args.predictions) / "classes.txt"
        names, colours = parse_class_list(listing)
        known = saved is not None and tuple(names) == tuple(saved.info.classes)
        return names, colours, saved.info.void_class if known else None, str(listing)
    if saved is not None:
        return saved.info.classes, saved.info.palette, saved.info.void_class, f"the checkpoint {args.checkpoint}"
    return info.classes, None, None, f"the data set {info.name!r}"


def _matched(args, classes, void, owner, info):
    """Their classes' numbers in the data set; says so where they are others than theirs.

    Raises:
      ConfigError: the names differ.
    """
    from segjax.core.classes import by_name, by_place, unshared, without
    from segjax.core.errors import ConfigError

    table = by_name(classes, info.classes, void)
    if table is not None:
        if list(table) != sorted(table):
            print(f"note: {owner} has the classes in another order than {info.name!r}; each is scored under its name.")
        return table
    difference = unshared(without(classes, void), info.classes)
    insist = by_place(classes, info.classes, void)
    if insist is None:
        raise ConfigError(
            f"num_classes: the data set {info.name!r} has {info.num_classes}, {owner} "
            f"{len(without(classes, void))} ({difference}); evaluate on the set it was trained for, or, where one "
            "output means void, convert it again with --void-class."
        )
    if args.classes_differ:
        return insist
    raise ConfigError(
        f"classes: {owner} and the data set {info.name!r} have other names: {difference}; evaluate on the set it was "
        "trained for, or score class 0 as class 0, and so on, with --classes-differ."
    )


def overridden(record, overrides):
    """The checked Config of a nested dict with the command line's `key=value` texts set."""
    import copy

    from segjax.core.config import from_dict, set_text

    record = copy.deepcopy(dict(record))
    for key, text in overrides.items():
        set_text(record, key, text)
    return from_dict(record)
