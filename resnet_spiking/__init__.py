"""Spiking decoder heads on a frozen pretrained ResNet: train, verify, compare.

The public names load on first use, so that ``--help`` and ``import resnet_spiking`` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_spiking.config import RunConfig
    from resnet_spiking.data.datasets import load_dataset
    from resnet_spiking.data.feature_cache import features_of
    from resnet_spiking.data.images import Dataset, ImageSet
    from resnet_spiking.environment import Environment
    from resnet_spiking.errors import Interrupted, UserError
    from resnet_spiking.network.backbone import Backbone, split_resnet
    from resnet_spiking.network.classifier import Classifier, Decoder
    from resnet_spiking.network.head import HeadConfig, LinearHead, SpikingHead
    from resnet_spiking.reports.collection import load_collection
    from resnet_spiking.reports.digest import Digest
    from resnet_spiking.reports.write import write_report
    from resnet_spiking.studies.study import Execution, run_study
    from resnet_spiking.studies.study_file import Study, parse_study, read_study
    from resnet_spiking.studies.work import Resources
    from resnet_spiking.training.loop import fit
    from resnet_spiking.training.run import train_run
    from resnet_spiking.training.scoring import score
    from resnet_spiking.training.verify import load_network, verify_run

_HOMES = {
    "Backbone": "resnet_spiking.network.backbone",
    "Classifier": "resnet_spiking.network.classifier",
    "Dataset": "resnet_spiking.data.images",
    "Decoder": "resnet_spiking.network.classifier",
    "Digest": "resnet_spiking.reports.digest",
    "Environment": "resnet_spiking.environment",
    "Execution": "resnet_spiking.studies.study",
    "HeadConfig": "resnet_spiking.network.head",
    "ImageSet": "resnet_spiking.data.images",
    "Interrupted": "resnet_spiking.errors",
    "LinearHead": "resnet_spiking.network.head",
    "Resources": "resnet_spiking.studies.work",
    "RunConfig": "resnet_spiking.config",
    "SpikingHead": "resnet_spiking.network.head",
    "Study": "resnet_spiking.studies.study_file",
    "UserError": "resnet_spiking.errors",
    "features_of": "resnet_spiking.data.feature_cache",
    "fit": "resnet_spiking.training.loop",
    "load_collection": "resnet_spiking.reports.collection",
    "load_dataset": "resnet_spiking.data.datasets",
    "load_network": "resnet_spiking.training.verify",
    "parse_study": "resnet_spiking.studies.study_file",
    "read_study": "resnet_spiking.studies.study_file",
    "run_study": "resnet_spiking.studies.study",
    "score": "resnet_spiking.training.scoring",
    "split_resnet": "resnet_spiking.network.backbone",
    "train_run": "resnet_spiking.training.run",
    "verify_run": "resnet_spiking.training.verify",
    "write_report": "resnet_spiking.reports.write",
}

__all__ = [
    "Backbone",
    "Classifier",
    "Dataset",
    "Decoder",
    "Digest",
    "Environment",
    "Execution",
    "HeadConfig",
    "ImageSet",
    "Interrupted",
    "LinearHead",
    "Resources",
    "RunConfig",
    "SpikingHead",
    "Study",
    "UserError",
    "features_of",
    "fit",
    "load_collection",
    "load_dataset",
    "load_network",
    "parse_study",
    "read_study",
    "run_study",
    "score",
    "split_resnet",
    "train_run",
    "verify_run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resnet_spiking' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
