"""Command: run a study, see how it stands, export its results."""

from __future__ import annotations

from pathlib import Path

import click

from resnet_spiking.errors import UserError, check_known
from resnet_spiking.terminal import OneLineCommand, OneLineGroup

HELP = """Run the grid of runs and attacks that a study file describes; started again, it does only what is missing.

\b
  python -m resnet_spiking.study --preset quick            minutes, on scikit-learn's digits
  python -m resnet_spiking.study --preset seed-table --dry-run
  python -m resnet_spiking.study STUDY.toml --workers 4
  python -m resnet_spiking.study STUDY.toml --engine ray --address HOST:PORT
  python -m resnet_spiking.study status studies/quick      from another shell
  python -m resnet_spiking.study preset seed-table         a file to begin from

\b
STUDY.toml, for example:
  [datasets.pictures]
  kind = "folder"
  data_dir = "PICTURES"
  [[grid]]
  dataset = "pictures"
  neuron = ["lif", "snntorch-lif", "paralif-sb"]
  train = "head"
  default_seed = 0
  seed = [0, 1, 2]

Any setting of the train command is an axis, with one value or a list; a Default belongs to every grid. Results are in
STUDY/results, for python -m resnet_spiking.report.
"""


class Study(OneLineGroup):
    """The commands; ``run`` where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Study, help=HELP, context_settings={"max_content_width": 110})
def main() -> None:
    pass


@main.command(cls=OneLineCommand, context_settings={"show_default": True, "max_content_width": 110})
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--preset", metavar="quick|seed-table", help="A study that ships with the package, instead of FILE.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Study folder.  [default: studies/<name>]")
@click.option("--data-dir", multiple=True, metavar="NAME=PATH", help="Where a dataset lies; a folder of pictures too.")
@click.option("--weights", multiple=True, metavar="BACKBONE=FILE", help="Weights of a backbone, as in train.")
@click.option("--dry-run", is_flag=True, help="Print runs, what each reuses, disk and estimated time; run nothing.")
@click.option(
    "--workers", type=click.IntRange(1), help="Worker processes.  [default: one per core; with --device cuda 1]"
)
@click.option("--engine", default="local", metavar="local|ray", help="Processes of this machine, or a Ray cluster.")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster.  [default: start Ray on this machine]")
@click.option("--task-cpus", type=click.IntRange(1), help="Threads of a task.  [default: cores / workers; on Ray 1]")
@click.option("--task-gpus", type=float, help="GPUs that a Ray task requests.  [default: 1 with --device cuda, else 0]")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Feature cache, as in train.")
@click.option("--no-cache", is_flag=True, help="Compute frozen features for every batch.")
@click.option(
    "--retries", type=click.IntRange(0), default=2, help="Further attempts at a task that crashed or was lost."
)
def run(
    file: Path | None, preset: str | None, output_dir: Path | None, data_dir: tuple[str, ...],
    weights: tuple[str, ...], dry_run: bool, workers: int | None, engine: str, address: str | None,
    task_cpus: int | None, task_gpus: float | None, device: str, cache_dir: Path | None, no_cache: bool, retries: int,
) -> None:  # fmt: skip
    """Run a study (the default command).

    FILE is a TOML study file, or a study's folder to continue it. Exit status: 0 all done, 1 some runs failed,
    130 stopped by Ctrl-C (which saves first), 2 bad input.
    """
    import os
    import sys

    from resnet_spiking.studies.engines import ENGINES
    from resnet_spiking.studies.folder import read_stored_study
    from resnet_spiking.studies.places import with_places
    from resnet_spiking.studies.presets import load_preset
    from resnet_spiking.studies.study import Execution, run_study
    from resnet_spiking.studies.study_file import read_study
    from resnet_spiking.studies.work import Resources
    from resnet_spiking.terminal import cache_root, stop_signal

    if (file is None) == (preset is None):
        raise UserError("give either a study file or --preset quick|seed-table")
    check_known("--engine", engine, ENGINES)
    if address and engine != "ray":
        raise UserError("--address belongs to --engine ray; add that, or leave --address out")
    if task_gpus is not None:
        if engine != "ray":
            raise UserError("--task-gpus belongs to --engine ray; add that, or leave --task-gpus out")
        # Written so that NaN, which compares to nothing, is refused; Ray has shares of one GPU, not of several.
        if not (0 <= task_gpus <= 1 or (task_gpus > 1 and task_gpus.is_integer())):
            raise UserError(f"--task-gpus must be a share of one GPU, 0 to 1, or a whole number, not {task_gpus:g}")
    if workers and engine == "ray":
        raise UserError("--workers belongs to --engine local; on Ray the cluster's CPUs and --task-cpus decide")
    if cache_dir and no_cache:
        raise UserError("--cache-dir and --no-cache contradict each other; give one of them")
    if preset:
        study = load_preset(preset)
    else:
        assert file
        study = read_stored_study(file) if file.is_dir() else read_study(file)
    study = with_places(study, data_dir, weights)
    folder = output_dir or (file if file and file.is_dir() else Path("studies", study.name))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Runs that share a GPU wait for each other; Ray knows how many there are.
    workers = workers or (1 if engine == "local" and device.startswith("cuda") else cores)
    resources = Resources(
        threads=task_cpus or (1 if engine == "ray" else max(1, cores // workers)),
        gpus=task_gpus if task_gpus is not None else float(device.startswith("cuda")),
        device=device,
        cache_dir=None if no_cache else (cache_dir or cache_root()).resolve(),
        command=tuple(sys.argv),
    )
    if dry_run:
        from resnet_spiking.studies.dry_run import print_dry_run

        print_dry_run(study, folder, resources, workers)
        return

    from resnet_spiking.studies.view import watching

    with stop_signal() as should_stop, watching(folder.resolve()) as watch:
        execution = Execution(engine, workers, address, resources, retries)
        tally = run_study(study, folder, execution, watch, should_stop)
    for label, error, log in tally.errors:
        click.echo(f"failed: {label}: {error} (log: {log})", err=True)
    click.echo(f"{tally.done} done, {tally.failed} failed, {tally.waiting} left; results: {folder / 'results'}")
    if tally.stopped:
        click.echo("stopped and saved; the same command continues", err=True)
        raise click.exceptions.Exit(130)
    if tally.failed:
        raise click.exceptions.Exit(1)


@main.command(cls=OneLineCommand)
@click.argument("study", type=click.Path(path_type=Path))
def status(study: Path) -> None:
    """Say how the study in the folder STUDY stands, while it runs or afterwards."""
    from rich.console import Console

    from resnet_spiking.studies.status import is_running, read_board
    from resnet_spiking.studies.view import draw

    board = read_board(study)
    console = Console(markup=False)
    if not console.is_terminal:
        # A file or a pipe has no width of its own: names are not cut there.
        console.width = 200
    console.print(draw(board, study))
    for key, task in board.tasks.items():
        if board.states[key] == "failed":
            error = board.errors.get(key, "")
            console.print(f"failed: {task.label}: {error} (log: {study / 'logs' / task.label}.log)", soft_wrap=True)
    if not is_running(study):
        console.print(
            "not running now" + ("" if board.count("done") == board.total else "; the study command continues it")
        )


@main.command(cls=OneLineCommand)
@click.argument("study", type=click.Path(path_type=Path))
def export(study: Path) -> None:
    """Write STUDY/results again from the finished runs in the folder STUDY."""
    from resnet_spiking.studies.export import export_study
    from resnet_spiking.studies.status import read_entries

    click.echo(f"wrote {export_study(study, read_entries(study))}")


@main.command(cls=OneLineCommand)
@click.argument("name")
def preset(name: str) -> None:
    """Print the study file of a preset: quick or seed-table."""
    from resnet_spiking.studies.presets import preset_text

    click.echo(preset_text(name), nl=False)


if __name__ == "__main__":
    main()
