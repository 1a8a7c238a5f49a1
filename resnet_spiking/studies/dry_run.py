"""What a study would do: its runs, what each reuses, disk and time."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from resnet_spiking.studies.checking import check_study
from resnet_spiking.studies.cost import Cost, estimate
from resnet_spiking.studies.folder import holds_study
from resnet_spiking.studies.forecast import makespan
from resnet_spiking.studies.plan import Task, plan_study
from resnet_spiking.studies.status import read_entries
from resnet_spiking.studies.study_file import Study
from resnet_spiking.studies.view import readable
from resnet_spiking.studies.work import Resources
from resnet_spiking.terminal import choose_device


def print_dry_run(study: Study, folder: Path, resources: Resources, workers: int) -> None:
    """Check the study, time a few steps of its networks and print the plan. Nothing is written."""
    tasks = plan_study(study, cached=resources.cache_dir is not None)
    check_study(study.as_dict())
    entries = read_entries(folder) if holds_study(folder) else []
    done = {entry.key for entry in entries if entry.state == "done"}
    console = Console(markup=False)
    if not console.is_terminal:
        # A file or a pipe has no width of its own: names are not cut there.
        console.width = 200
    todo = [task for task in tasks if task.key not in done]
    with console.status("timing a few steps of each network"):
        device, cached = choose_device(resources.device), resources.cache_dir is not None
        costs = estimate(todo, threads=resources.threads, device=device, cached=cached)
    # An attack names its networks; that their parts come first goes without saying.
    labels = {task.key: task.label for task in tasks if task.kind != "part"}
    table = Table("task", "reuses", "disk", "time", title=f"{study.name}: {len(tasks)} tasks, {len(todo)} to do")
    for task in tasks:
        table.add_row(task.label, _reuses(task, labels), *_figures(task, costs, task.key in done))
    console.print(table)
    seconds = {key: cost.seconds for key, cost in costs.items()}
    size = sum(cost.size for cost in costs.values())
    free = shutil.disk_usage(_existing(folder)).free
    total = readable(makespan(tasks, seconds, workers, done=done))
    rooms = f"disk {_bytes(size)}, free {_bytes(free)}"
    console.print(
        f"about {total} with {workers} workers of {resources.threads} threads; {rooms}", highlight=False, soft_wrap=True
    )
    if attacks := sum(task.kind == "attack" for task in todo):
        console.print(f"{attacks} attacks are not in the estimate: their time depends on how long images resist")
    if size > free:
        console.print("not enough room on the disk", style="bold red")


def _reuses(task: Task, labels: dict[str, str]) -> str:
    return ", ".join(labels[need] for need in task.needs if need in labels) or "–"


def _figures(task: Task, costs: dict[str, Cost], done: bool) -> tuple[str, str]:
    if done:
        return "–", "done"
    cost = costs.get(task.key)
    return (_bytes(cost.size), readable(cost.seconds)) if cost else ("?", "?")


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
