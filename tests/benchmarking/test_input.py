from __future__ import annotations

import numpy as np

from segjax.benchmarking.input import benchmark_input


def test_counts_what_follows_the_warm_up():
    taken = []

    def batches():
        for index in range(100):
            taken.append(index)
            yield {"image": np.zeros((2, 4, 4, 3), np.uint8), "valid": np.ones(2, bool)}

    found = benchmark_input(batches(), count=5, warmup=3)
    assert len(taken) == 8
    assert found["images"] == 10
    assert found["bytes_per_image"] == 4 * 4 * 3 + 1
