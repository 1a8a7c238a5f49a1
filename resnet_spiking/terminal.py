"""What all commands share: one-line errors, a stop signal, progress bars."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_spiking.cache_home import cache_home
from resnet_spiking.errors import UserError
from resnet_spiking.storage.whereabouts import home_prefix
from resnet_spiking.thread_wait import yield_busy_cores

if TYPE_CHECKING:
    import torch
    from rich.console import Console


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""A full, exhausted or read-only disk: nothing that the program did wrong."""

UNUSABLE = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
"""A path that the system does not have, not for this user, or not as a file or folder."""


_HOME = re.compile(r"^(--[a-z-]+=)~(?=/|$)")


class OneLineCommand(click.Command):
    """Bad input ends in one line on stderr and exit code 2; waiting threads leave their cores to others."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A shell leaves ~ alone behind an equals sign.
        if home := home_prefix():
            args = [_HOME.sub(lambda found: found[1] + home.removesuffix(os.sep), text) for text in args]
        # Before a type makes something of it: an empty path would be the current folder.
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        for parameter in self.get_params(ctx):
            value = given.get(parameter.name or "")
            if "" in (value if isinstance(value, (list, tuple)) else (value,)):
                raise click.BadParameter("it is empty; give a value, or leave it out", ctx, parameter)
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        yield_busy_cores()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal that cannot show a letter is no reason to end, with a status that says something else.
                stream.reconfigure(errors="replace")
        try:
            # Outside standalone mode click returns the code of an Exit.
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except click.Abort:
            sys.exit(130)
        except (UserError, click.ClickException) as error:
            message = error.format_message() if isinstance(error, click.ClickException) else error
            click.echo(f"error: {message}", err=True)
            sys.exit(2)
        except (MemoryError, RuntimeError) as error:
            if str(error).startswith("Symlink loop from "):  # as Python before 3.13 says errno.ELOOP
                place = str(error).removeprefix("Symlink loop from ").strip("'")
                click.echo(f"error: cannot use {place} (a link that leads to itself); name another place", err=True)
                sys.exit(2)
            if not _lacks_memory(error):
                raise
            click.echo(
                "error: this needs more memory than there is; use smaller batches, fewer time steps or narrower layers",
                err=True,
            )
            sys.exit(2)
        except OSError as error:
            if error.errno in UNUSABLE and error.filename is not None:
                click.echo(f"error: cannot use {error.filename} ({error.strerror}); name another place", err=True)
                sys.exit(2)
            if error.errno not in UNWRITABLE or error.filename is None:
                raise
            click.echo(
                f"error: cannot write {error.filename} ({error.strerror}); make room there or choose another place: "
                "what was finished before is kept",
                err=True,
            )
            sys.exit(2)


def _lacks_memory(error: Exception) -> bool:
    # torch has a class of its own for GPUs alone; importing it for that would cost every --help a second.
    named = "DefaultCPUAllocator" in str(error) or type(error).__name__ == "OutOfMemoryError"
    return named or isinstance(error, MemoryError)


class OneLineGroup(OneLineCommand, click.Group):
    """A group of commands with one-line errors; alone it shows its help, and that is no error."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


def given_options(context: click.Context) -> list[str]:
    """Return the names of the parameters that a command line gives a value, others than those left at their default."""
    from click.core import ParameterSource

    names = [parameter.name or "" for parameter in context.command.params]
    return [name for name in names if context.get_parameter_source(name) != ParameterSource.DEFAULT]


def choose_device(name: str) -> torch.device:
    """Return the device. Raises ``UserError`` when it is malformed or not there: never falls back."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name!r} is unknown; give cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise UserError(f"--device {name!r} is not supported; give cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device {name} is not there: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def cache_root() -> Path:
    """Return the default feature cache folder, below the user's cache folder."""
    return cache_home() / "features"


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to save and stop; the second one kills."""
    asked = []

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield ``progress(label, done, total)``: a live bar per label on a terminal, else a line at each tenth."""
    from rich.console import Console

    console = Console(stderr=True, markup=False)
    # Before version 15 rich ends even a disabled bar with an empty line.
    with _live_bars(console) if console.is_terminal else nullcontext(_line_at_each_tenth()) as progress:
        yield progress


@contextmanager
def _live_bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    tasks: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.description:>22}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:

        def progress(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done)

        yield progress


def _line_at_each_tenth() -> Callable[[str, int, int], None]:
    shown: dict[str, int] = {}

    def progress(label: str, done: int, total: int) -> None:
        if done * 10 // total > shown.get(label, 0):
            shown[label] = done * 10 // total
            click.echo(f"{label}: {done}/{total}", err=True)

    return progress
