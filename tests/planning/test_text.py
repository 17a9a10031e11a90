"""The plan's sentences and tables."""

from __future__ import annotations

from segjax.planning import text
from segjax.planning.page import page

GIB = 2**30


def _refused(**found):
    """A plan that the compiler gave up, so that only the sum and what the arguments hold are known."""
    return {
        "note": "Predictions.",
        "name": "run",
        "model": "net/test",
        "parameters": 10,
        "crop_size": [512, 1024],
        "dtype": "bfloat16",
        "batch_size": 2048,
        "batch_per_device": 8.0,
        "fits": False,
        "topology": {
            "name": "v5e:16x16",
            "platform": "tpu",
            "kind": "TPU v5 lite",
            "chips": 256,
            "devices": 256,
            "mesh": {"data": 256, "fsdp": 1, "spatial": 1},
        },
        "memory": {
            "parts": {"parameters": GIB, "optimiser_state": GIB, "statistics": 0, "average": 0, "batch": GIB},
            "complete": False,
            "needed": 20 * GIB,
            "available": 16 * GIB,
            "headroom": -4 * GIB,
            "compiler": None,
        },
        **({"would_fit": found} if found else {}),
    }


def test_by_how_much_and_what_would_fit():
    record = _refused(batch_size=1024, predicted_largest=1536, compiled={"2048": 20 * GIB, "1024": 12 * GIB}, unit=256)
    line = text.verdict(record)
    assert "20.00 GiB needed, 16.00 GiB there, 4.00 GiB too much, at 2048 images a step (8 a device)" in line
    assert "config.train.batch_size=1024 fits (12.00 GiB), and up to 1536 should" in line


def test_where_nothing_fits_it_says_what_else_there_is():
    record = _refused(batch_size=None, predicted_largest=None, compiled={"2048": 20 * GIB, "256": 17 * GIB}, unit=256)
    assert "not even 256 images fit: split the image (config.parallel.spatial)" in text.verdict(record)
    assert text.verdict(_refused()).endswith("(--recompute lets it)")  # nobody looked


def test_what_fits_only_recomputed_is_told():
    record = _refused()
    record["memory"] |= {"without_recomputation": 21 * GIB}
    assert text.verdict(record).endswith("although the compiler recomputes (21.00 GiB otherwise)")
    record["memory"] |= {"complete": True, "needed": 15 * GIB}
    record["fits"] = True
    assert text.verdict(record).endswith("because the compiler recomputes: 21.00 GiB otherwise")


def test_a_refused_plans_rows_add_up_too():
    rows = text.memory_rows(_refused())
    sizes = [float(row[1].replace(",", "")) for row in rows]
    assert sum(sizes[:-1]) == sizes[-1] == 20 * 1024
    assert rows[-2][0] == "the rest"
    assert "too large" in page(_refused())
    assert any("does not fit" in line for line in text.lines(_refused()))


def test_columns_of_numbers_stand_to_the_right():
    assert text.table(["what", "n"], [["a", "5"], ["bb", "1,200"]]) == [
        "  what      n",
        "  a         5",
        "  bb    1,200",
    ]


def test_small_sizes_and_times_keep_their_digits():
    assert text.gib(3 * GIB) == "3.00 GiB"
    assert text.gib(2**20) == "1.0 MiB"
    assert text.mib(1000) == "0.001"
    assert text.ms(1.5) == "1,500.00"
    assert text.ms(2e-6) == "0.002"
