"""The folder of a run: who may write there, and its JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from resnet_spiking.config import RunConfig
from resnet_spiking.errors import UserError
from resnet_spiking.training.environment import Environment
from resnet_spiking.training.files import write_json

FORMAT = 1


def read_json(path: Path) -> dict[str, Any]:
    """Read one of the JSON files of a run or an evaluation.

    Raises ``UserError`` when it is missing, damaged or of another format.
    """
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        folder = path.parent
        if (folder / "config.json").exists():
            raise UserError(f"{folder} is not finished ({path.name} is missing); continue it with --resume") from None
        raise UserError(
            f"{folder} holds no run or evaluation ({path.name} is missing); "
            "name a folder that train or attack has finished"
        ) from None
    except (OSError, ValueError):
        raise UserError(f"{path} is damaged; make it again with --overwrite") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"{path} has another format than this version's ({FORMAT}); train the run again")
    return value


def write_config(folder: Path, config: RunConfig, env: Environment) -> None:
    """Write ``config.json``: the settings, and where the data lay."""
    inputs = {"data_dir": str(env.data_dir) if env.data_dir else None}
    write_json(folder / "config.json", {"format": FORMAT, "config": config.as_dict(), "inputs": inputs})


def finished_run(config: RunConfig, output: Path, *, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """Return the result when resuming a finished run; write nothing.

    Raises ``UserError`` for a folder that holds a run already, holds none to resume, or was started with another
    configuration.
    """
    if resume and overwrite:
        raise UserError("--resume continues a run and --overwrite deletes it: give one of them")
    path = output / "config.json"
    if output.exists() and not output.is_dir():
        raise UserError(f"--output-dir {output} is a file; name a folder")
    if path.exists() and not (resume or overwrite):
        raise UserError(f"{output} holds a run already; add --resume to continue it, or --overwrite to replace it")
    if resume:
        if not path.exists():
            raise UserError(f"{output} holds no run to resume; leave --resume out to start one")
        stored = RunConfig.from_dict(read_json(path)["config"]).as_dict()
        different = [name for name, value in config.as_dict().items() if stored[name] != value]
        if different:
            raise UserError(
                f"{output} was started with another configuration ({', '.join(different)}); use the same options"
            )
        if (output / "result.json").exists():
            return read_json(output / "result.json")
    return None


def claim_folder(config: RunConfig, output: Path, env: Environment, *, overwrite: bool) -> None:
    """Make the folder this run's own, with ``overwrite`` in the place of the one in it.

    Called once data and weights are there: a run that is refused for them leaves nothing, and loses nothing.

    Raises ``UserError`` for a folder that cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for name in ("result.json", "last.ckpt", "metrics.jsonl", "model.safetensors"):
                (output / name).unlink(missing_ok=True)
        write_config(output, config, env)
    except OSError as error:
        raise UserError(f"cannot write to {output} ({error.strerror}); choose another --output-dir") from None
