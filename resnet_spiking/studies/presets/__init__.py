"""The studies that ship with the package, as study files."""

from __future__ import annotations

from importlib import resources

from resnet_spiking.errors import check_known
from resnet_spiking.studies.study_file import Study, parse_study, tomllib

PRESETS = ("quick", "seed-table")


def preset_text(name: str) -> str:
    """Return a preset's file. Raises ``UserError`` for an unknown name."""
    check_known("--preset", name, PRESETS)
    return (resources.files("resnet_spiking.studies.presets") / f"{name}.toml").read_text()


def load_preset(name: str) -> Study:
    """Return a preset as a checked study."""
    return parse_study(tomllib.loads(preset_text(name)), f"preset {name}")
