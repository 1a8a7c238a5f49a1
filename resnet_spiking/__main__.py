"""Command: list the commands, or run one by name."""

from __future__ import annotations

import importlib

import click

from resnet_spiking.terminal import OneLineGroup

COMMANDS = {
    "train": "train Default, branch, train a spiking head",
    "evaluate": "recompute a run's figures and say whether they match",
    "attack": "attack runs on the same images, check the figures, verify them",
    "study": "run the grid of runs and attacks that a study file describes",
    "report": "tables, figures and a page from a study, or check a README",
    "encoder": "train the encoder that the package ships",
}


class Commands(OneLineGroup):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return importlib.import_module(f"resnet_spiking.{name}").main if name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Commands, help="Spiking heads on a frozen ResNet. Each command also runs as python -m resnet_spiking.NAME."
)
def main() -> None:
    pass


if __name__ == "__main__":
    main()
