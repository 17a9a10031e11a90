"""Writes a data set's folder once as ArrayRecord into a cache, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.core.cache import cache_root
from segjax.core.errors import DataError, SegjaxError, StorageError
from segjax.core.schema import INSTANCE, DatasetInfo
from segjax.data import builders
from segjax.data.consistency import ONE_CLASS, VOID_SPLIT
from segjax.data.instances.counts import InstanceCounts
from segjax.data.layout import Layout

RECORD = "segjax.json"
_STORAGE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EIO,
)
# They change when what is written changes, so that old copies are not read; the second counts for sets of instances.
_FORMAT, _INSTANCE_FORMAT = 3, 1


def default_cache() -> Path:
    """$SEGJAX_CACHE, or ~/.cache/segjax."""
    return cache_root()


def prepare(
    name: str,
    root: str | Path | None,
    cache: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """The prepared directory of data set `name`, written now unless the same files were prepared before.

    The directory is keyed by the name, the options, and every file's path, size and modification time: a folder that
    changed is prepared anew. It is a tfds data set (`tfds.builder_from_directory`) plus `segjax.json`. Several
    processes may prepare at once: the first to finish is kept.

    Raises:
      DataError: for a file that is not what the set promises; nothing is left in the cache.
      StorageError: when the cache cannot be written.
    """
    files = builders.files(name, root, options)
    layout = builders.layout(name, root, options) if files is None else None
    if layout is not None:
        _tell_unread(layout)
    where = Path(cache).expanduser() if cache is not None else default_cache()
    try:
        str(where).encode()
    except UnicodeEncodeError as error:  # ArrayRecord opens no other path
        raise StorageError(f"{where}: the path is not UTF-8; choose another folder with --cache.") from error
    instances = layout is None or INSTANCE in layout.annotations
    paths = layout.files() if files is None else files
    final = where / f"{name}-{listing_key(name, Path(root).expanduser(), paths, options or {}, instances)}"
    if (final / RECORD).is_file():
        return final
    if layout is None:
        layout = builders.layout(name, root, options)
        _tell_unread(layout)
    images = sum(len(split) for split in layout.splits.values())
    print(f"preparing {name} ({images} images of {layout.root}) into {final}", file=sys.stderr, flush=True)
    temporary = None
    try:
        where.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=where))
        _write(layout, temporary, final)
    except SegjaxError:
        raise
    except Exception as error:
        cause = _storage_cause(error)
        if cause is None:
            raise
        raise StorageError(
            f"{final}: cannot be written ({cause}); free some space or choose another folder with --cache"
            " (config.data.cache, $SEGJAX_CACHE)."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


def _tell_unread(layout: Layout) -> None:
    """One line each on stderr for what lies in the folders and goes into no sample."""
    left = [(f"{path} ({why})", "not read") for path, why in layout.unread]
    left += [(str(path), "no image of that name") for path in layout.orphans]
    for kind in ("not read", "no image of that name"):
        found = [text for text, what in left if what == kind]
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            print(f"warning: {kind}: {found[0]}{more}. {layout.way_out()}", file=sys.stderr, flush=True)


def listing_key(
    name: str, root: Path, files: Sequence[Path], options: Mapping[str, Any], instances: bool = False
) -> str:
    """16 hexadecimal digits that change with the options and with any file's path, size or modification time.

    Args:
      name: of the data set.
      root: its folder, which holds the files.
      files: in a fixed order.
      options: of the set.
      instances: whether it has any.
    """
    form = [_FORMAT, _INSTANCE_FORMAT] if instances else _FORMAT
    digest = hashlib.sha256(json.dumps([form, name, dict(options)], sort_keys=True, default=str).encode())
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
        digest.update(
            f"{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape")
        )
    return digest.hexdigest()[:16]


def read_record(directory: Path) -> dict[str, Any]:
    """`segjax.json` of a prepared directory: {format, info, splits: {name: counts}}."""
    try:
        return json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{directory}: damaged prepared copy ({error}); delete it and prepare the set again."
        ) from error


def _write(layout: Layout, temporary: Path, final: Path) -> None:
    from segjax.data.builders import base

    if layout.problems and not layout.skip_bad:
        raise base.refused(layout.problems[0], layout)
    written, builder = base.write(layout, temporary)
    for problem in builder.survey.problems(builder.counts):
        if problem.kind not in (ONE_CLASS, VOID_SPLIT):  # which training and scoring refuse, split by split
            raise DataError(f"{problem.text}.")
    instances = {split: _instance_record(layout, split, counts) for split, counts in builder.instances.items()}
    for problem in layout.problems:
        builder.tally.drop(problem.kind, problem.text)
    for line in builder.tally.lines():
        print(f"warning: {line}", file=sys.stderr, flush=True)
    record = {
        "format": _FORMAT,
        "info": _info(layout, builder).to_json(),
        "splits": {
            split: {
                "images": counts.images,
                "pixels": counts.pixels.tolist(),
                "area_with": counts.area_with.tolist(),
                "void": counts.void,
                "missing": counts.missing,
                "largest": list(counts.largest),
                **({"instances": instances[split]} if INSTANCE in layout.annotations else {}),
            }
            for split, counts in builder.counts.items()
        },
    }
    (written / RECORD).write_text(json.dumps(record), encoding="utf-8")
    try:
        written.rename(final)
    except OSError:
        if not (final / RECORD).is_file():  # else another process was first
            raise


def _instance_record(layout: Layout, split: str, counts: InstanceCounts) -> dict[str, int]:
    """What is kept of a split's instances in figures; tells of images that have too many of them."""
    if line := counts.over_limit(layout.max_instances):
        print(f"warning: split {split!r}: {line}", file=sys.stderr, flush=True)
    return {name: getattr(counts, name) for name in ("without", "layers", "most", "over", "left_out")}


def _info(layout: Layout, builder: Any) -> DatasetInfo:
    counts = builder.counts[layout.measured_split]
    mean, std = builder.imagenet_statistics() or (counts.mean().tolist(), counts.std().tolist())
    return DatasetInfo(
        name=layout.name,
        classes=layout.classes,
        palette=layout.palette,
        channels=builder.channels,
        image_dtype=builder.image_dtype,
        mean=tuple(mean),
        std=tuple(std),
        **({} if INSTANCE not in layout.annotations else _instance_info(layout, builder)),
    )


def _instance_info(layout: Layout, builder: Any) -> dict[str, Any]:
    counts = builder.instances.values()
    return {
        "things": layout.things,
        "layers": max(one.layers for one in counts),
        "max_instances": min(layout.max_instances, max(one.most for one in counts)),
    }


def _storage_cause(error: BaseException | None) -> str | None:
    """The operating system's words when `error`, or what caused it, is about writing; else None.

    ArrayRecord's writer reports a failed write as a RuntimeError that only quotes them.
    """
    while error is not None:
        for number in _STORAGE:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None
