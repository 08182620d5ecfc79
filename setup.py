"""Package metadata; the tools are configured in pyproject.toml."""

import pathlib

import setuptools

ROOT = pathlib.Path(__file__).parent

INTERCHANGE = {
    "images": ["kaleido>=1.0"],  # figures as PNG or PDF; drives an installed Chrome
    "optuna": ["optuna>=4"],
    "pandas": ["pandas>=2.2", "pyarrow>=17"],
    "tensorboard": ["tensorboardX>=2.6"],
}

DOCS = ["mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.27"]

TEST = [
    *(name for names in INTERCHANGE.values() for name in names),
    "beartype>=0.19",
    "chex>=0.1.88",
    "hypothesis>=6.100",
    "playwright>=1.49",  # drives an installed Chromium
    "pyright>=1.1.390",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.9",
]

setuptools.setup(
    name="dnc_jax",
    version="0.1.0",
    description="Neural networks that are good and cheap, found many at a time, in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["dnc_jax*", "experiments*"]),
    package_data={
        "dnc_jax": [
            "py.typed",
            "exporting/templates/*",
            "footprint/data/*.csv",
            "report/templates/*",
        ]
    },
    entry_points={"console_scripts": ["dnc-search=experiments.search:cli"]},
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.7",  # the reader behind tfds.data_source
        "filelock>=3.16",
        "flatbuffers>=24",  # what jax.export writes
        "flax>=0.10",
        "jax>=0.10,<0.13",
        "jinja2>=3.1",
        "ml_collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.4",
        "orbax-checkpoint>=0.11",
        "pillow>=10",  # what tfds.data_source decodes images with
        "plotly>=6.1.1",
        "rich>=13.7",
        "safetensors>=0.5",
        "scikit-learn>=1.6",
        "scipy>=1.15",
        "tensorflow-datasets>=4.9.7",
    ],
    extras_require={
        "energy": ["nvidia-ml-py>=12", "zeus>=0.13"],  # of GPUs
        **INTERCHANGE,
        "test": TEST,
        "docs": DOCS,
        "dev": [*TEST, *DOCS, "pre-commit>=4", "pytest-cov>=5"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
