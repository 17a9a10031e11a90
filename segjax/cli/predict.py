"""Label images, or the points of clouds, with a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from segjax.cli.runtime import add_process_arguments, join, prepare_jax

TAKES_OVERRIDES = False
# Suffixes of pictures, and of files that hold some, that are not read.
PICTURES = (
    *(".gif", ".heic", ".heif", ".avif", ".svg", ".pdf", ".eps", ".jp2", ".j2k", ".jpx", ".jxl", ".jfif", ".jpe"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".psd", ".xcf", ".tga", ".ico", ".exr", ".hdr", ".pcx", ".sgi", ".dds", ".mpo"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    *(".dcm", ".nii", ".mha", ".nrrd", ".czi", ".lif", ".nd2", ".svs", ".ndpi"),
    *(".ecw", ".sid", ".img", ".vrt", ".nc", ".h5", ".hdf", ".npz", ".mat", ".mp4", ".avi", ".mov", ".mkv", ".webm"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from segjax.cli import viewing

    parser.add_argument("--checkpoint", metavar="DIR", required=True, help="a run's workdir, or its checkpoints folder")
    parser.add_argument("--which", default="best", metavar="best|last|STEP", help="which checkpoint; default best")
    parser.add_argument(
        "--input", metavar="FILE|FOLDER", required=True, help="an image, a cloud (npz, txt), or a folder of either"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        required=True,
        help="where label ids are written: DIR/NAME.png (clouds: .npz), DIR/classes.txt",
    )
    parser.add_argument(
        "--format",
        metavar="png|tif",
        help="of the label files; default png, and tif for TIFF images that are labelled in bands (with --window, from "
        "8192 x 8192 pixels on); tif keeps the georeference of a TIFF",
    )
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
        "skipped, or are of a kind that is not read, 2 nothing done."
    )


def run(args: argparse.Namespace) -> int:
    from segjax.core.config import Parallel
    from segjax.core.errors import ConfigError

    # --- What can be wrong is looked at before anything heavy is imported.
    if not 0 <= args.alpha <= 1:
        raise ConfigError(f"--alpha: {args.alpha} is outside 0..1.")
    if not Path(args.checkpoint).is_dir():
        raise ConfigError(f"--checkpoint: no folder {args.checkpoint!r}; give the workdir of a training run.")
    if args.format not in (None, "png", "tif"):
        raise ConfigError(f"--format: {args.format!r} is neither png nor tif.")
    paths, unread = inputs(Path(args.input))
    targets = outputs(paths, Path(args.output), args.overlay, args.format)

    prepare_jax()
    with join(args, Parallel()):
        return _predict(args, paths, targets, unread)


def _predict(args: argparse.Namespace, paths: list[Path], targets: list[Path], unread: list[tuple[Path, str]]) -> int:
    import sys
    import time

    import jax

    from segjax.cli import viewing
    from segjax.cli.progress import progress
    from segjax.core.config import from_dict, to_dict
    from segjax.core.errors import ConfigError, DataError
    from segjax.core.files import write_text
    from segjax.core.schema import IMAGE
    from segjax.inference.clouds import label_clouds
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
    images = predictor.task.subject == IMAGE
    what = "images" if images else "clouds"
    if images == is_cloud(paths[0]):
        raise DataError(f"--input: {paths[0]}: the checkpoint's network labels {what}; give it some.")
    if not isinstance(predictor, Predictor):
        for flag, value in (("--probabilities", args.probabilities), ("--format", args.format == "tif")):
            if value:
                raise ConfigError(f"{flag}: predictions of task {config.task!r} are not written so; leave it out.")
    if jax.process_index() == 0:
        classes = class_list(Path(args.output), predictor.info)
        for path, why in unread:
            print(f"segjax predict: not read {path}: {why}", file=sys.stderr)
    missed = [path for path, _ in unread if _is_picture(path)]

    # --- The images, this process's share; one that cannot be read is told of and passed over.
    mine = slice(jax.process_index(), None, jax.process_count())
    paths, targets = paths[mine], targets[mine]
    if not paths:
        return 0
    done, skipped, start = 0, 0, time.perf_counter()
    drawn = {"overlay": args.overlay, "alpha": args.alpha}
    if images:
        drawn |= {"probabilities": args.probabilities, "large_suffix": ".tif" if args.format is None else None}
    with progress(len(paths), "predict") as advance:
        for path, error in (label_files if images else label_clouds)(predictor, paths, targets, **drawn):
            done, skipped = done + (error is None), skipped + (error is not None)
            if error is not None:
                print(f"segjax predict: skipped {_line(error, path)}", file=sys.stderr)
            advance(done + skipped)
    if not done and jax.process_count() == 1:  # among several, another's images may be in order
        raise DataError(f"--input: none of {len(paths)} {what} could be read.")
    if jax.process_index() == 0:
        write_text(Path(args.output) / "classes.txt", classes)
    rate = done / max(time.perf_counter() - start, 1e-9)
    print(
        f"{done} {what} labelled in {args.output} ({rate:.1f} {what}/s)"
        + (f", {skipped} skipped" if skipped else "")
        + (f", {len(unread)} not read" if unread else "")
    )
    return 1 if skipped or missed else 0


def inputs(path: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The file itself, or the images of a folder by name, or where it has none its clouds; and what lies there and is
    not read, with the reason.

    Raises:
      DataError: there is neither, or two share a name.
    """
    from segjax.core.errors import DataError
    from segjax.data.cloud_file import CLOUD_SUFFIXES
    from segjax.data.layout import IMAGE_SUFFIXES, list_files, seen

    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise DataError(f"--input: no file or folder {str(path)!r}.")
    found, unread = list_files(path, IMAGE_SUFFIXES)
    if not found:
        found, unread = list_files(path, CLOUD_SUFFIXES)
    if not found:
        raise DataError(
            f"--input: no images in {str(path)!r}, which holds {seen(path)}; files ending in "
            f"{', '.join((*IMAGE_SUFFIXES, *CLOUD_SUFFIXES))} are read."
        )
    return list(found.values()), [(each.path, each.why) for each in unread]


def is_cloud(path: Path) -> bool:
    """Whether a file holds a cloud, by its suffix."""
    from segjax.data.cloud_file import CLOUD_SUFFIXES

    return path.suffix.lower() in CLOUD_SUFFIXES


def _is_picture(path: Path) -> bool:
    """Whether a file that is not read holds a picture, by its suffix or its first bytes."""
    from segjax.core.errors import DataError
    from segjax.data.decode import kind_of

    if path.suffix.lower() in PICTURES or path.is_dir():
        return path.suffix.lower() in PICTURES
    try:
        with path.open("rb") as file:
            kind_of(path, file.read(132))
    except (OSError, DataError):
        return False
    return True


def class_list(folder: Path, info) -> str:
    """The text of DIR/classes.txt, names and colours of the ids, as the data set `folder` reads them.

    Raises:
      DataError: there is one of other names, which somebody may still need.
    """
    from segjax.core.errors import DataError
    from segjax.data.class_list import write_class_list

    path = folder / "classes.txt"
    text = write_class_list(info.classes, info.palette)
    if path.is_file() and path.read_bytes() != text.encode():
        raise DataError(
            f"--output: {path} lists other classes or colours than the checkpoint's; choose another folder."
        )
    return text


def outputs(paths: list[Path], folder: Path, overlay: bool, format: str | None = None) -> list[Path]:
    """The label file of each image.

    Raises:
      DataError: two images share a name, or a file to be written is one of the images.
    """
    from segjax.core.errors import DataError

    sources = {path.resolve() for path in paths}
    targets: dict[Path, Path] = {}
    for path in paths:
        target = folder / f"{path.stem}.{'npz' if is_cloud(path) else format or 'png'}"
        if target in targets:
            raise DataError(f"{targets[target].name} and {path.name} would both be written to {target}; rename one.")
        written = [target, *([] if format else [target.with_suffix(".tif")])]
        written += [folder / "overlays" / f"{path.stem}.png"] if overlay else []
        for file in written:
            if file.resolve() in sources:
                raise DataError(f"--output: {file} is an input image and would be overwritten; choose another folder.")
        targets[target] = path
    return list(targets)


def _line(error: Exception, path: Path) -> str:
    text = str(error).splitlines()[0]
    return text if str(path) in text else f"{path}: {text}"
