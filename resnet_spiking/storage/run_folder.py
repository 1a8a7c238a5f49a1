"""The folder of a run or of an evaluation: who may write there, and its JSON files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from resnet_spiking.config import NAMED_WEIGHTS, RunConfig
from resnet_spiking.data.images import MEMORY, Dataset
from resnet_spiking.environment import Environment
from resnet_spiking.errors import UserError
from resnet_spiking.storage.files import remove_temporaries, write_json
from resnet_spiking.storage.lock import LOCK, exclusive
from resnet_spiking.storage.records import Kind, check_record
from resnet_spiking.storage.whereabouts import from_folder, named, places

FORMAT = 1
SHARED_DEFAULT = re.compile("default-[0-9a-f]{16}")

# The field, in config.json and in result.json, that tells one kind from the other.
_MARKS: dict[Kind, str] = {"run": "config", "evaluation": "models"}
_NAMED = {"run": "a run of train", "evaluation": "an evaluation by attack"}
# What is written under names that a folder of the user's own may have too.
_WRITTEN: dict[Kind, tuple[str, ...]] = {
    "run": ("config.json", "result.json", "metrics.jsonl", "model.safetensors", "last.ckpt"),
    "evaluation": ("config.json", "result.json", "table.csv", "curves.png", "panel.png"),
}


def read_json(path: Path, kind: Kind) -> dict[str, Any]:
    """Read one of the JSON files of a run or an evaluation.

    Raises ``UserError`` when it is missing, damaged, of another format or of the other kind, and for the first field
    that is not as it was written.
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
    except PermissionError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); ask its owner, or name another folder") from None
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} is damaged; make it again with --overwrite") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"{path} has another format than this version's ({FORMAT}); train the run again")
    if _MARKS[kind] not in value:
        other = next((name for name, mark in _MARKS.items() if mark in value), None)
        found = _NAMED[other] if other else "something else"
        raise UserError(f"{path.parent} holds {found}, not {_NAMED[kind]}; name the folder of one")
    check_record(value, kind, path)
    return value


def check_output(folder: Path, kind: Kind) -> None:
    """Raise ``UserError`` for an output folder that cannot be one, or whose files, not a ``kind``'s, would be replaced.

    ``config.json`` is the first file that a run or an evaluation writes: what lies beside none is somebody else's.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        # The library that reads models takes no other name.
        raise UserError(f"--output-dir {str(folder)!a} is not UTF-8; name another folder") from None
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output-dir {folder} is a file; name a folder")
    if SHARED_DEFAULT.fullmatch(folder.resolve().name):
        raise UserError(
            f"--output-dir {folder} has the name of a Default that runs beside it share, which is trained and "
            "continued for them by itself; choose another"
        )
    written = [name for name in _WRITTEN[kind] if (folder / name).exists()]
    try:
        stored = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        stored = {}
    except (OSError, ValueError, RecursionError):
        return  # damaged, and to be made again
    if written and (not isinstance(stored, dict) or _MARKS[kind] not in stored):
        raise UserError(f"{folder} holds a {written[0]} that {_NAMED[kind]} did not write; choose another --output-dir")


def write_config(folder: Path, config: RunConfig, data: Dataset, env: Environment) -> None:
    """Write ``config.json``: the settings, and where the data lay, or what it is called that lay in memory."""
    given = env.data_dir
    inputs: dict[str, str | None] = {"data_dir": None}
    if data.test.source == MEMORY:
        inputs["memory"] = data.name
    elif given:
        inputs = {"data_dir": named(given), "way": from_folder(given, folder)}
    if config.weights not in NAMED_WEIGHTS:
        file = Path(config.weights)
        inputs |= {"weights": named(file), "weights_way": from_folder(file, folder)}
    write_json(folder / "config.json", {"format": FORMAT, "config": config.as_dict(), "inputs": inputs})


def stored_data_dir(run: Path) -> Path | None:
    """Return where the data of a run lies that was given a place for it, as seen from here.

    Raises ``UserError`` when it is in none of the places that the run names, or was held in memory.
    """
    inputs = read_json(run / "config.json", "run")["inputs"]
    if "memory" in inputs:
        raise UserError(
            f"{run} was trained on images held in memory (Dataset {inputs['memory']!r}), which no file holds; in "
            f"Python call verify_run(Path({str(run)!r}), data=…) with them"
        )
    if inputs["data_dir"] is None:
        return None
    sought = places(run, inputs.get("way"), inputs["data_dir"])
    found = next((place for place in sought if place.exists()), None)
    if found is None:
        raise UserError(f"the data of {run} is not in {' or '.join(map(str, sought))}; name its folder with --data-dir")
    return found


def stored_weights(run: Path, config: RunConfig) -> str:
    """Return the weights that a run was trained on, a file as it is found from here; as they are named if nowhere."""
    inputs = read_json(run / "config.json", "run")["inputs"]
    if config.weights in NAMED_WEIGHTS or "weights" not in inputs:
        return config.weights
    sought = places(run, inputs.get("weights_way"), inputs["weights"])
    return next((str(place) for place in sought if place.is_file()), config.weights)


def finished_run(config: RunConfig, output: Path, *, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """Return the result when resuming a finished run; write nothing.

    Raises ``UserError`` for a folder that holds a run already, holds none to resume, was started with another
    configuration, or has other files under a run's names.
    """
    if resume and overwrite:
        raise UserError("--resume continues a run and --overwrite deletes it: give one of them")
    path = output / "config.json"
    check_output(output, "run")
    if path.exists() and not (resume or overwrite):
        raise UserError(f"{output} holds a run already; add --resume to continue it, or --overwrite to replace it")
    if resume:
        if not path.exists():
            raise UserError(f"{output} holds no run to resume; leave --resume out to start one")
        begun = RunConfig.from_dict(read_json(path, "run")["config"])
        stored = begun.as_dict()
        different = [name for name, value in config.as_dict().items() if stored[name] != value]
        if "weights" in different and _same_file(stored_weights(output, begun), config.weights):
            different.remove("weights")
        if different:
            raise UserError(
                f"{output} was started with another configuration ({', '.join(different)}); use the same options"
            )
        if (output / "result.json").exists():
            return read_json(output / "result.json", "run")
    return None


def _same_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


@contextmanager
def held_folder(output: Path) -> Iterator[None]:
    """Make the folder of a run or of an evaluation, and keep other commands out of it until the block ends.

    Raises ``UserError`` when another command writes there, or the folder cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {output} ({error.strerror}); choose another --output-dir") from None
    with exclusive(output, busy=f"another command writes to {output}; wait for it, or choose another --output-dir"):
        try:
            yield
        finally:
            with suppress(OSError):
                (output / LOCK).unlink(missing_ok=True)
                output.rmdir()  # of a run that was refused: nothing was written


def claim_folder(config: RunConfig, output: Path, data: Dataset, env: Environment, *, overwrite: bool) -> None:
    """Make the folder this run's own, with ``overwrite`` in the place of the one in it.

    Called once data and weights are there: a run that is refused for them leaves nothing, and loses nothing.

    Raises ``UserError`` for a folder that cannot be written.
    """
    try:
        if overwrite:
            for name in ("result.json", "last.ckpt", "metrics.jsonl", "model.safetensors"):
                (output / name).unlink(missing_ok=True)
        remove_temporaries(output)
        write_config(output, config, data, env)
    except OSError as error:
        raise UserError(f"cannot write to {output} ({error.strerror}); choose another --output-dir") from None
