"""The study file: what is compared, in TOML, every key and value checked before any work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from resnet_spiking.attacks.names import NORMS, ORDERS, RADII
from resnet_spiking.config import RunConfig, integers
from resnet_spiking.data.names import DATASETS
from resnet_spiking.errors import UserError, check_known, nearest
from resnet_spiking.network.names import BACKBONES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP_LEVEL = ("name", "datasets", "backbones", "grid", "attack")
DATASET_KEYS = ("kind", "data_dir", "image_size")
BACKBONE_KEYS = ("weights",)
FILTERS = {"seeds": "seed", "datasets": "dataset", "backbones": "backbone", "neurons": "neuron", "train": "train"}
ATTACK_KEYS = ("bundle", "norm", "eps", "samples", "order", *FILTERS)

# A grid's axes are the settings of a run; these three are named otherwise.
RENAMED = {"epochs": "X,Y", "default_seed": "the seed of Default, when it is not the head's"}
NOT_AN_AXIS = {"head_seed": "give the heads' seeds as seed and Default's as default_seed"}
AXES = (*(setting.name for setting in fields(RunConfig) if setting.name not in NOT_AN_AXIS), *RENAMED)

Value = bool | int | float | str | tuple[int, ...] | None
Grid = dict[str, tuple[Value, ...]]


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset under the study's name for it: which loader (``kind``), where it lies, at what size."""

    kind: str
    data_dir: Path | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class AttackBlock:
    """One bundle of attacks on every network of the study, or of the named seeds, datasets, backbones, neurons.

    ``train`` leaves those branches whose ``train`` setting it names; Default is always attacked.
    ``eps`` are fractions of the pixel range, and ``order`` is theirs, as the attack command takes them; a file that
    names none has the command's for its norm.
    Without ``seeds`` the first seed of each dataset and backbone is attacked.
    """

    bundle: str = "quick"
    norm: str = "linf"
    eps: tuple[str, ...] = RADII["linf"]
    samples: int = 100
    order: str = "ascending"
    seeds: tuple[int, ...] = ()
    datasets: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    neurons: tuple[str, ...] = ()
    train: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A checked study file. ``grids`` map each axis to its values; a study is the union of their products."""

    name: str
    grids: tuple[Grid, ...]
    datasets: dict[str, DatasetEntry] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    attacks: tuple[AttackBlock, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the study as ``parse_study`` reads it, JSON-ready."""
        datasets = {
            name: {
                "kind": entry.kind,
                **({"data_dir": str(entry.data_dir)} if entry.data_dir else {}),
                **({} if entry.image_size is None else {"image_size": entry.image_size}),
            }
            for name, entry in self.datasets.items()
        }
        grids = [
            {axis: [_plain(axis, value) for value in values] for axis, values in grid.items()} for grid in self.grids
        ]
        attacks = [
            {key: list(value) if isinstance(value := getattr(block, key), tuple) else value for key in ATTACK_KEYS}
            for block in self.attacks
        ]
        return {
            "name": self.name,
            "datasets": datasets,
            "backbones": {name: {"weights": weights} for name, weights in self.weights.items()},
            "grid": grids,
            "attack": [{key: value for key, value in block.items() if value != []} for block in attacks],
        }


def read_study(path: Path) -> Study:
    """Read and check a study file. Raises ``UserError`` for anything wrong in it, naming file, block and key."""
    try:
        # With or without the mark that some editors put first.
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"study file {path} cannot be read ({reason}); give a TOML file, or --preset") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"study file {path} is not valid TOML: {error}") from None
    except RecursionError:
        raise UserError(f"study file {path} nests its lists too deeply; an axis is one value or a list") from None
    return parse_study({"name": path.stem, **values}, str(path))


def parse_study(values: Mapping[str, Any], where: str) -> Study:
    """Check a study given as plain dictionaries and lists; ``where`` is what messages call it."""
    _check_keys(values, TOP_LEVEL, where)
    name = _expect(values.get("name"), str, f"{where}: name")
    _check_folder_name(name, f"{where}: name")
    datasets = {
        key: _parse_dataset(key, entry, f"{where}: [datasets.{key}]")
        for key, entry in _table(values, "datasets", where).items()
    }
    weights = {}
    for key, entry in _table(values, "backbones", where).items():
        place = f"{where}: [backbones.{key}]"
        check_known(f"{where}: backbone", key, BACKBONES)
        _check_keys(_expect(entry, dict, place), BACKBONE_KEYS, place)
        if "weights" in entry:
            weights[key] = _expect(entry["weights"], str, f"{place}: weights")
    grids = tuple(
        _parse_grid(entry, datasets, f"{where}: [[grid]] {number}")
        for number, entry in enumerate(_blocks(values, "grid", where), 1)
    )
    if not grids:
        raise UserError(f'{where} has no [[grid]]; write one, for example: [[grid]] neuron = ["lif"] seed = [0, 1, 2]')
    attacks = tuple(
        _parse_attack(entry, grids, f"{where}: [[attack]] {number}")
        for number, entry in enumerate(_blocks(values, "attack", where), 1)
    )
    return Study(name, grids, datasets, weights, attacks)


def _parse_dataset(name: str, entry: object, where: str) -> DatasetEntry:
    values = _expect(entry, dict, where)
    # Runs, attacks and logs are named after it.
    _check_folder_name(name, f"{where}: name")
    _check_keys(values, DATASET_KEYS, where)
    if "kind" not in values and name not in DATASETS:
        raise UserError(f"{where}: {name!r} is no dataset of this package{nearest(name, list(DATASETS))}; add kind, "
                        f"one of {', '.join(DATASETS)}")  # fmt: skip
    kind = _expect(values.get("kind", name), str, f"{where}: kind")
    check_known(f"{where}: kind", kind, DATASETS)
    data_dir = Path(_expect(values["data_dir"], str, f"{where}: data_dir")) if "data_dir" in values else None
    if kind == "digits" and data_dir:
        raise UserError(f"{where}: digits come with scikit-learn; leave data_dir out")
    size = _expect(values["image_size"], int, f"{where}: image_size") if "image_size" in values else None
    if size is not None:
        try:
            RunConfig(image_size=size)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return DatasetEntry(kind, data_dir, size)


def _parse_grid(entry: object, datasets: dict[str, DatasetEntry], where: str) -> Grid:
    values = _expect(entry, dict, where)
    for key, instead in NOT_AN_AXIS.items():
        if key in values:
            raise UserError(f"{where}: {key} is not an axis; {instead}")
    _check_keys(values, AXES, where)
    if "epochs" in values and {"default_epochs", "spiking_epochs"} & set(values):
        raise UserError(f'{where}: epochs contradicts default_epochs and spiking_epochs; give epochs = "X,Y" alone')
    grid = {axis: _parse_axis(axis, given, f"{where}: {axis}") for axis, given in values.items()}
    grid.setdefault("dataset", ("digits",))
    known = [*datasets, *DATASETS]
    for name in grid["dataset"]:
        check_known(f"{where}: dataset", str(name), known)
        if name == "folder" and name not in datasets:
            raise UserError(f"{where}: dataset 'folder' needs [datasets.folder] with its data_dir")
    return grid


def _parse_axis(axis: str, given: object, where: str) -> tuple[Value, ...]:
    if axis == "epochs" and isinstance(given, list) and all(isinstance(part, int) for part in given):
        raise UserError(f'{where}: write a pair as "X,Y", several as ["5,5", "5,20"], not {given}')
    listed = given if isinstance(given, list) else [given]
    if not listed:
        raise UserError(f"{where} is an empty list; give at least one value, or leave it out")
    values = tuple(_parse_value(axis, value, where) for value in listed)
    twice = sorted({repr(value) for value in values if values.count(value) > 1})
    if twice:
        raise UserError(f"{where} lists {', '.join(twice)} twice; each value gives runs of its own, name it once")
    return values


def _parse_value(axis: str, value: object, where: str) -> Value:
    if axis == "epochs":
        return integers(where, _expect(value, str, where), 2)
    if axis == "hidden":
        if isinstance(value, list):
            return tuple(_expect(width, int, where) for width in value)
        return integers(where, str(value))
    wanted = _kinds().get(axis, (int,))
    if value == "none" and type(None) in wanted:
        return None
    if float in wanted and type(value) is int:
        return float(value)
    if type(value) not in wanted:
        names = " or ".join("none" if kind is type(None) else KIND_NAMES[kind] for kind in wanted)
        raise UserError(f"{where} must be {names}, or a list of such, not {value!r}")
    return value  # type: ignore[return-value]


KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", dict: "a table"}


def _kinds() -> dict[str, tuple[type, ...]]:
    from typing import get_args, get_type_hints

    hints = get_type_hints(RunConfig)
    return {name: get_args(hint) or (hint,) for name, hint in hints.items()}


def _parse_attack(entry: object, grids: tuple[Grid, ...], where: str) -> AttackBlock:
    values = dict(_expect(entry, dict, where))
    _check_keys(values, ATTACK_KEYS, where)
    kept: dict[str, Any] = {}
    for key in ("bundle", "norm", "order"):
        if key in values:
            kept[key] = _expect(values[key], str, f"{where}: {key}")
    check_known(f"{where}: norm", kept.get("norm", "linf"), NORMS)
    check_known(f"{where}: order", kept.get("order", "ascending"), ORDERS)
    if "samples" in values:
        kept["samples"] = _expect(values["samples"], int, f"{where}: samples")
        if kept["samples"] < 1:
            raise UserError(f"{where}: samples must be at least 1, not {kept['samples']}")
    if "eps" in values:
        listed = values["eps"] if isinstance(values["eps"], list) else [values["eps"]]
        kept["eps"] = tuple(_parse_radius(radius, f"{where}: eps") for radius in listed)
    else:
        kept["eps"] = RADII[kept.get("norm", "linf")]
    for key, axis in FILTERS.items():
        if key not in values:
            continue
        given = values[key] if isinstance(values[key], list) else [values[key]]
        listed = [_parse_value(axis, value, f"{where}: {key}") for value in given]
        present = {getattr(RunConfig(), axis, None)} if any(axis not in grid for grid in grids) else set()
        present |= {value for grid in grids for value in grid.get(axis, ())}
        for value in listed:
            if value not in present:
                known = sorted(map(str, present))
                raise UserError(
                    f"{where}: {key} {value!r} is in no grid{nearest(str(value), known)}; there is {', '.join(known)}"
                )
        kept[key] = tuple(listed)
    for key, value in kept.items():
        if isinstance(value, tuple) and (not value or len(set(value)) != len(value)):
            raise UserError(f"{where}: {key} must list different values, not {list(value)}")
    return AttackBlock(**kept)


def _parse_radius(value: object, where: str) -> str:
    if type(value) not in (str, int, float):
        raise UserError(f'{where} must be a text such as "8/255" or a number such as 0.03, not {value!r}')
    return str(value).strip()


def _table(values: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    return dict(_expect(values.get(key, {}), dict, f"{where}: [{key}]"))


def _blocks(values: Mapping[str, Any], key: str, where: str) -> list[Any]:
    given = values.get(key, [])
    if isinstance(given, dict):
        return [given]
    return list(_expect(given, list, f"{where}: [[{key}]]"))


def _expect(value: object, kind: type, where: str) -> Any:
    if type(value) is not kind:
        name = KIND_NAMES.get(kind, "a list of tables")
        raise UserError(f"{where} must be {name}, not {value!r}")
    return value


def _check_keys(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise UserError(
                f"{where}: {key!r} is unknown{nearest(key, list(known))}; known: {', '.join(sorted(known))}"
            )


def _check_folder_name(name: str, where: str) -> None:
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name) or name.startswith("."):
        raise UserError(f"{where} {name!r} names a folder; use letters, digits, '-', '_' and '.', no '.' first")


def _plain(axis: str, value: Value) -> object:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else value
