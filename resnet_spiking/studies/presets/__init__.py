"""The studies that ship with the package, as study files."""

from __future__ import annotations

from importlib import resources

from resnet_spiking.errors import UserError, nearest
from resnet_spiking.studies.study_file import Study, parse_study, tomllib

PRESETS = ("quick", "seed-table")


def preset_text(name: str) -> str:
    """Return a preset's file. Raises ``UserError`` for an unknown name."""
    if name not in PRESETS:
        raise UserError(
            f"--preset {name!r} is unknown{nearest(name, list(PRESETS))}; choose from: {', '.join(PRESETS)}"
        )
    return (resources.files("resnet_spiking.studies.presets") / f"{name}.toml").read_text()


def load_preset(name: str) -> Study:
    """Return a preset as a checked study."""
    return parse_study(tomllib.loads(preset_text(name)), f"preset {name}")
