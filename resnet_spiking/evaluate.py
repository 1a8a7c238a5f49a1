"""Command: recompute a run's figures from its files and say whether they match."""

from __future__ import annotations

from pathlib import Path

import click

from resnet_spiking.terminal import OneLineCommand

HELP = """Reload RUN in this process, score it again from pixels to logits in fp32, and compare.

Says "verified" (exit status 0), or which figure differs (exit status 1).
"""


@click.command(cls=OneLineCommand, help=HELP, context_settings={"show_default": True})
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the data is, when it has moved since training."
)
@click.option("--weights", help="The backbone's weights, when they have moved since training.")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def main(run: Path, data_dir: Path | None, weights: str | None, device: str, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from resnet_spiking.reports.summary import print_comparison
    from resnet_spiking.terminal import choose_device, progress_bars
    from resnet_spiking.training.verify import verify_run

    with progress_bars() as progress:
        rows = verify_run(
            run,
            data_dir=data_dir,
            weights=weights,
            device=choose_device(device),
            progress=lambda done, total: progress("scoring", done, total),
        )
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print_comparison(rows, run)
    raise click.exceptions.Exit(0 if all(row.agrees for row in rows) else 1)


if __name__ == "__main__":
    main()
