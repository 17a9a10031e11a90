"""What a plan must know of a chip: stated peaks, bandwidths, memory; and the GPUs as XLA's compiler describes them."""

from __future__ import annotations

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One jax device; where a chip is two of them (tpu7x), half of the chip.

    Attributes:
      kind: jax's device_kind.
      flops: dense bfloat16 FLOP/s; None where it is measured (CPUs).
      bandwidth: of its memory, bytes/s; None where nobody states one.
      memory: bytes a program may take. TPUs: the limit in the compiler's own out-of-memory error; GPUs: all of it.
      clock: Hz, inferred from the peak and the matrix unit's width; None where the compiler counts no cycles.
      network: bytes/s one way over all of a device's links.
      dimensions: of the torus the links form; 1 for a switch, which gives one exchange all of `network`.
      lanes: channels fill multiples of it.
      sublanes: a device's images fill multiples of it; 1 where nothing is known.
      devices: jax devices a chip.
    """

    kind: str
    flops: float | None
    bandwidth: float | None
    memory: float
    clock: float | None = None
    network: float | None = None
    dimensions: int = 1
    lanes: int = 128
    sublanes: int = 8
    devices: int = 1


# Peaks, bandwidths and links: cloud.google.com/tpu/docs, the page of each generation (links are stated there in both
# directions; one way is half). Memory: `available HBM` of the compiler's error, libtpu 0.0.42.1. Clocks are inferred
# from the peaks, not published.
TPUS = {
    "v4": Chip("TPU v4", 275e12, 1228e9, 30.75 * GIB, 1.05e9, 300e9, 3),
    "v5e": Chip("TPU v5 lite", 197e12, 819e9, 15.75 * GIB, 1.5e9, 200e9, 2),
    "v5p": Chip("TPU v5", 459e12, 2765e9, 95.74 * GIB, 1.75e9, 600e9, 3),
    "v6e": Chip("TPU v6 lite", 918e12, 1640e9, 31.25 * GIB, 1.75e9, 400e9, 2),
    "tpu7x": Chip("TPU7x", 1153.5e12, 3690e9, 94.75 * GIB, 2.2e9, 300e9, 3, devices=2),
}
SHAPES = {"v4": "4x4x4", "v5e": "16x16", "v5p": "4x4x4", "v6e": "16x16", "tpu7x": "4x4x4"}
"""A slice of each, for error messages."""

# nvidia.com, data sheets of the H100 and H200 SXM; the network is NVLink, one way.
GPUS = {
    "h100": Chip("NVIDIA H100 80GB HBM3", 989e12, 3352.32e9, 84942979072, network=450e9, lanes=8, sublanes=1),
    "h200": Chip("NVIDIA H200 141GB HBM3e", 989e12, 4800e9, 151397597184, network=450e9, lanes=8, sublanes=1),
}


def gpu_target(chip: Chip) -> str:
    """XLA's description of a GPU to compile for (openxla/xla, xla/backends/gpu/target_config/specs), Hopper's."""
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {chip.bandwidth:.0f} l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: {chip.memory:.0f} shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{chip.kind}"
"""
