"""A benchmark's record as lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from segjax.planning.memory import PARTS
from segjax.planning.text import gib, ms, table


def lines(record: Mapping[str, Any]) -> list[str]:
    """What a run of `segjax benchmark` prints."""
    size = record.get("crop_size") or record.get("image_size")
    head = f"{record['mode']}: {record['model']}, {record['batch_size']} images of {size[0]}x{size[1]}, "
    return [f"{head}{record['dtype']}, on {record['device']}", *_BODIES[record["mode"]](record)]


def _timed(record: Mapping[str, Any]) -> Iterator[str]:
    name = "step" if record["mode"] == "train" else "batch"
    times = record[name]
    spread = f"{ms(times['fastest'])} to {ms(times['slowest'])} ms in {times['rounds']} rounds"
    yield f"{name}: {ms(times['median'])} ms (median; {spread}), {record['images_per_second']:.2f} images/s"
    yield (
        f"measured on the device: {record['peak_flops'] / 1e9:,.1f} GFLOP/s in matrix products, "
        f"{record['bandwidth'] / 1e9:,.1f} GB/s"
    )
    if record["flops"] is not None:
        yield (
            f"work: {record['flops'] / 1e9:,.2f} GFLOP, {record['utilisation']:.1%} of the measured peak; the floor is "
            f"{ms(record['floor_seconds'])} ms ({record['bound']}), {record['floor_share']:.1%} of the time taken"
        )
    if "pipeline" in record:
        behind = record["pipeline"]
        yield (
            f"behind the input pipeline: {behind['images_per_second']:.2f} images/s, {behind['data_wait']:.1%} of the "
            f"time waiting for data, {behind['steps']} steps"
        )
    yield from _peaks(record)


def _delivered(record: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{record['images_per_second']:.1f} images/s, {ms(record['cpu_seconds_per_image'])} ms of CPU time and "
        f"{record['bytes_per_image'] / 2**20:.2f} MiB an image, over {record['images']} images"
    )


def _compiled(record: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [name, f"{one[name]['trace']:.2f}", f"{one[name]['compile']:.2f}", f"{sum(one[name].values()):.2f}"]
        for one in record["compile"]
        for name in ("cold", "cached")
    ]
    yield from table(["seconds", "trace", "compile", "both"], rows)


def _held(record: Mapping[str, Any]) -> Iterator[str]:
    yield from table(["", "bytes", ""], [[name, gib(record["parts"][name]), PARTS[name]] for name in PARTS])
    yield f"together: {gib(record['needed'])} a device, by the compiler's account"
    yield from _peaks(record)


def _peaks(record: Mapping[str, Any]) -> Iterator[str]:
    device = record["device_memory"]
    yield f"memory: device {'not told by this backend' if device is None else gib(device) + ' at the peak'}, " + (
        f"host {gib(record['host_memory'])}"
    )


_BODIES = {"train": _timed, "infer": _timed, "input": _delivered, "compile": _compiled, "memory": _held}
