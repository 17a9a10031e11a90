"""Machines that are not there, to lower programs for."""

from __future__ import annotations

import contextlib

from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

DEVICES = {"cuda": AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="cuda")}


def machine(platform: str) -> contextlib.AbstractContextManager:
    """Around the tracing and lowering of a program: from jax 0.11 on Pallas wants to know the GPU."""
    if platform not in DEVICES:
        return contextlib.nullcontext()
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=DEVICES[platform]))
