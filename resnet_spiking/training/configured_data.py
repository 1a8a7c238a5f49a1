"""The images that a configuration names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from resnet_spiking.config import RunConfig
from resnet_spiking.data.datasets import load_dataset
from resnet_spiking.data.images import Dataset
from resnet_spiking.data.watch import Watch, silent
from resnet_spiking.environment import Environment
from resnet_spiking.errors import UserError


def _data_key(config: RunConfig, data_dir: Path | None) -> tuple[object, ...]:
    """Return what ``load_data`` depends on, for ``Environment.remember``."""
    # Only image folders are brought to the configured size when they are read.
    side = config.image_size if config.dataset == "folder" else None
    return ("data", config.dataset, data_dir, side, config.train_samples, config.test_samples, config.flip)


def remember_data(config: RunConfig, env: Environment) -> Dataset:
    """Return the configured dataset, from the environment's memory where a run of this process left it.

    Raises ``UserError`` as ``load_data``.
    """
    data: Dataset = env.remember(_data_key(config, env.data_dir), lambda: _reported(config, env))
    return data


def _reported(config: RunConfig, env: Environment) -> Dataset:
    data = load_data(config, env.data_dir, env.watching(begun=False))
    for note in data.notes:
        env.report(note)
    return data


def load_data(config: RunConfig, data_dir: Path | None, watch: Watch = silent) -> Dataset:
    """Load the configured dataset, cut to the configured number of samples; ``watch`` as of ``load_dataset``.

    Raises ``UserError`` as ``load_dataset``, and for a ``data_dir`` that the dataset would not look at.
    """
    if config.dataset == "digits" and data_dir is not None:
        raise UserError(
            "--dataset digits come with scikit-learn: leave --data-dir out, or name a --dataset that lies there"
        )
    return fitted(load_dataset(config.dataset, data_dir, side=config.image_size, watch=watch), config)


def fitted(data: Dataset, config: RunConfig) -> Dataset:
    """Return ``data`` cut to the configured number of samples, with mirror images as configured."""
    train = data.train.subset(config.train_samples) if config.train_samples else data.train
    test = data.test.subset(config.test_samples) if config.test_samples else data.test
    flip = data.flip if config.flip is None else config.flip
    return replace(data, train=train, test=test, flip=flip)
