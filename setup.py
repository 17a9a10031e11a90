"""Metadata and dependencies; the reasons behind each bound are in docs/design.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "segjax" / "__init__.py").read_text()).group(1)

setup(
    name="segjax",
    version=version,
    description="Image segmentation in JAX and Flax, for TPU pods and GPUs",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["segjax", "segjax.*"]),
    package_data={"segjax.models": ["figures.json"]},
    install_requires=[
        "jax>=0.10,<0.12",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12,<0.13",
        "chex>=0.1.92",
        "einops>=0.8",
        "ml-collections>=1.1",
        "absl-py>=2.1",
        "grain>=0.2.18",
        "array-record>=0.8",
        "tensorflow-datasets>=4.9.10",
        "opencv-python-headless>=4.12",
        "pillow>=11",
        "numpy>=2.1",
        "rich>=14",
        "scipy>=1.14",
        "tensorboardX>=2.6.4",
        "safetensors>=0.5",
        "tifffile>=2025.1",
    ],
    extras_require={
        "dev": [
            "ruff",
            "pytest>=8",
            "pytest-xdist",
            "hypothesis",
            "jaxtyping",
            "beartype",
            "scikit-learn",
            "imagecodecs>=2024.12",
            "pycocotools>=2.0.10",
        ],
        "prepare": ["tensorflow-cpu>=2.21"],
        "eval": ["pycocotools", "scikit-image", "surface-distance"],
        "tiff": ["imagecodecs>=2024.12"],
        "hub": ["huggingface_hub", "h5py"],
        "viz": ["matplotlib"],
        "wandb": ["wandb"],
        "tpu": ["jax[tpu]>=0.10,<0.12"],
        "cuda": ["jax[cuda13]>=0.10,<0.12"],
        # jax 0.10.2's own libtpu, 0.0.42: programs that another compiled for v5p or v6e cannot be printed.
        "plan": ["jax[tpu]==0.10.2"],
    },
    entry_points={"console_scripts": ["segjax=segjax.cli.main:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
)
