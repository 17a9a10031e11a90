"""Label images with a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from segjax.cli.runtime import add_process_arguments, join, prepare_jax

TAKES_OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from segjax.cli import viewing

    parser.add_argument("--checkpoint", metavar="DIR", required=True, help="a run's workdir, or its checkpoints folder")
    parser.add_argument("--which", default="best", metavar="best|last|STEP", help="which checkpoint; default best")
    parser.add_argument("--input", metavar="IMAGE|FOLDER", required=True, help="an image, or a folder of images")
    parser.add_argument("--output", metavar="DIR", required=True, help="where DIR/NAME.png, the label ids, are written")
    parser.add_argument("--overlay", action="store_true", help="also write DIR/overlays/NAME.png")
    parser.add_argument("--alpha", type=float, default=0.5, help="share of the classes' colours in overlays, 0 to 1")
    parser.add_argument(
        "--probabilities", action="store_true", help="also write DIR/probabilities/NAME.npy, float16 [H, W, classes]"
    )
    parser.add_argument(
        "--spatial", type=int, default=1, metavar="N", help="split the rows of every image over N devices"
    )
    viewing.add_arguments(parser)
    add_process_arguments(parser)
    parser.epilog = (
        "Several processes share the images out. Exit status: 0 all images labelled, 1 some could not be read and were "
        "skipped, 2 nothing done."
    )


def run(args: argparse.Namespace) -> int:
    from segjax.core.config import Parallel
    from segjax.core.errors import ConfigError

    # --- What can be wrong is looked at before anything heavy is imported.
    if not 0 <= args.alpha <= 1:
        raise ConfigError(f"--alpha: {args.alpha} is outside 0..1.")
    if not Path(args.checkpoint).is_dir():
        raise ConfigError(f"--checkpoint: no folder {args.checkpoint!r}; give the workdir of a training run.")
    paths = inputs(Path(args.input))
    targets = outputs(paths, Path(args.output), args.overlay)

    prepare_jax()
    with join(args, Parallel()):
        return _predict(args, paths, targets)


def _predict(args: argparse.Namespace, paths: list[Path], targets: list[Path]) -> int:
    import sys
    import time

    import jax

    from segjax.cli import viewing
    from segjax.cli.progress import progress
    from segjax.core.config import from_dict, to_dict
    from segjax.core.errors import DataError
    from segjax.inference.folder import label_files
    from segjax.inference.predictor import Predictor
    from segjax.parallel.mesh import make_mesh
    from segjax.parallel.transfer import check_batch_size
    from segjax.training.checkpoint import read_checkpoint

    # --- The network.
    saved = read_checkpoint(args.checkpoint, args.which)
    record = to_dict(from_dict(saved.config))
    viewing.update(record["eval"], args)
    config = from_dict(record)
    mesh = make_mesh(spatial=args.spatial, devices=jax.local_devices())
    check_batch_size(config.eval.batch_size, mesh, key="--batch-size")
    predictor = Predictor.from_saved(saved, config=config, mesh=mesh if mesh.size > 1 else None)

    # --- The images, this process's share; one that cannot be read is told of and passed over.
    mine = slice(jax.process_index(), None, jax.process_count())
    paths, targets = paths[mine], targets[mine]
    if not paths:
        return 0
    done, skipped, start = 0, 0, time.perf_counter()
    with progress(len(paths), "predict") as advance:
        for path, error in label_files(
            predictor,
            paths,
            targets,
            overlay=args.overlay,
            alpha=args.alpha,
            probabilities=args.probabilities,
        ):
            done, skipped = done + (error is None), skipped + (error is not None)
            if error is not None:
                print(f"segjax predict: skipped {_line(error, path)}", file=sys.stderr)
            advance(done + skipped)
    if not done and jax.process_count() == 1:  # among several, another's images may be in order
        raise DataError(f"--input: none of {len(paths)} images could be read.")
    rate = done / max(time.perf_counter() - start, 1e-9)
    print(
        f"{done} images labelled in {args.output} ({rate:.1f} images/s)" + (f", {skipped} skipped" if skipped else "")
    )
    return 1 if skipped else 0


def inputs(path: Path) -> list[Path]:
    """The image itself, or the images of a folder by name."""
    from segjax.core.errors import DataError
    from segjax.inference.images import SUFFIXES

    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"--input: no file or folder {str(path)!r}.")
    found = sorted(item for item in path.iterdir() if item.suffix.lower() in SUFFIXES and item.is_file())
    if not found:
        raise DataError(f"--input: no images in {str(path)!r}; files ending in {', '.join(SUFFIXES)} are read.")
    return found


def outputs(paths: list[Path], folder: Path, overlay: bool) -> list[Path]:
    """The label file of each image.

    Raises:
      DataError: two images share a name, or a file to be written is one of the images.
    """
    from segjax.core.errors import DataError

    sources = {path.resolve() for path in paths}
    targets: dict[Path, Path] = {}
    for path in paths:
        target = folder / f"{path.stem}.png"
        if target in targets:
            raise DataError(f"{targets[target].name} and {path.name} would both be written to {target}; rename one.")
        written = [target, folder / "overlays" / target.name] if overlay else [target]
        for file in written:
            if file.resolve() in sources:
                raise DataError(f"--output: {file} is an input image and would be overwritten; choose another folder.")
        targets[target] = path
    return list(targets)


def _line(error: Exception, path: Path) -> str:
    text = str(error).splitlines()[0]
    return text if str(path) in text else f"{path}: {text}"
