"""Command: show a study's results as tables, figures and one page, or check Markdown files against them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_spiking.errors import UserError
from resnet_spiking.terminal import OneLineCommand

if TYPE_CHECKING:
    from resnet_spiking.reports.digest import Digest

HELP = """Write tables, figures and one self-contained page from the results of a study.

STUDY is a study folder, its results folder, or a folder with the results of several studies, which are
reported on as one; nothing is trained or measured.

\b
  python -m resnet_spiking.report studies/quick
One table, as Markdown, on standard output:
  python -m resnet_spiking.report results --table "accuracy dataset=cifar10 columns=variant,n,accuracy"
Compare the tables of Markdown files with the results (exit status 1 where they differ), or write them:
  python -m resnet_spiking.report --check README.md --check docs/results.md results
  python -m resnet_spiking.report --update README.md results

\b
A file's table stands between <!-- report: REQUEST --> and <!-- /report -->. A REQUEST is
  accuracy | matrix | pairs | robustness | trust | trap | scaling | value column=NAME | figure name=NAME file=PATH.svg
followed by the settings that its rows must have: dataset=cifar10 variant=default,lif train=head …
"""


@click.command(cls=OneLineCommand, help=HELP, context_settings={"max_content_width": 110})
@click.argument("study", type=click.Path(path_type=Path), required=False)
@click.option("--output-dir", type=click.Path(path_type=Path), help="[default: report, beside the results folder]")
@click.option("--only", default="", metavar="SETTINGS", help='Report on a part: "dataset=cifar10 variant=default,lif".')
@click.option("--parquet", is_flag=True, help="Write tables as Parquet too (extra [parquet]).")
@click.option("--table", metavar="REQUEST", help="Print one table as Markdown.")
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE.md",
    help="Compare a file's marked tables with the results; give it again for more files.",
)
@click.option(
    "--update",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE.md",
    help="Write a file's marked tables from the results; give it again for more files.",
)
def main(
    study: Path | None, output_dir: Path | None, only: str, parquet: bool, table: str | None, check: tuple[Path, ...],
    update: tuple[Path, ...],
) -> None:  # fmt: skip
    if sum((table is not None, bool(check), bool(update))) > 1:
        raise UserError("--table, --check and --update each do one thing: give one of them")
    if (table is not None or check or update) and (output_dir or only or parquet):
        raise UserError("--output-dir, --only and --parquet belong to a whole report; leave them out")
    files = check or update
    if study is None:
        if not files:
            raise UserError("name a study folder or its results folder, such as studies/quick")
        study = files[0].parent / "results"

    from resnet_spiking.reports.collection import load_collection
    from resnet_spiking.reports.digest import Digest

    results = load_collection(study)
    if unchecked := results.unchecked:
        click.echo(
            f"{results.folder}: not checked, as predictions.npz lacks their predictions or labels: the accuracies of "
            f"{', '.join(unchecked)}",
            err=True,
        )
    digest = Digest.of(results, _shown_as(study, files))
    if table is not None:
        from resnet_spiking.reports.readme import KINDS, render
        from resnet_spiking.reports.request import parse_request

        click.echo(render(parse_request(table, KINDS), digest))
    elif check:
        _check(check, digest)
    elif update:
        from resnet_spiking.reports.readme import update_readmes

        for file, blocks in update_readmes(update, digest).items():
            click.echo(f"{file}: {blocks} blocks written from {digest.results.folder}")
    else:
        _write(digest, output_dir or digest.results.folder.parent / "report", only, parquet)


def _shown_as(study: Path, files: Sequence[Path]) -> Path:
    """Return the results as a reader of the Markdown files names them: from the folder that holds them all."""
    if not files:
        return study
    there = [path.resolve() for path in (study, *files)]
    folder = Path(os.path.commonpath([path.parent for path in there]))
    return study if folder == Path(folder.anchor) else there[0].relative_to(folder)


def _write(digest: Digest, output: Path, only: str, parquet: bool) -> None:
    from resnet_spiking.reports.request import parse_request
    from resnet_spiking.reports.write import write_report

    if only:
        digest = digest.only(parse_request(f"report {only}", {"report": frozenset()}))
    for path in write_report(digest, output, parquet=parquet):
        if path.parent == output:
            click.echo(path)
    click.echo(f"{output / 'tables'}, {output / 'figures'}")


def _check(files: Sequence[Path], digest: Digest) -> None:
    from resnet_spiking.reports.readme import check_readme

    differing = []
    for file in files:
        found = check_readme(file, digest)
        for difference in found.differences:
            click.echo(f"{file}:{difference.line}: {difference.request}: {difference.what}")
        if found.unmarked:
            lines = ", ".join(map(str, found.unmarked))
            click.echo(f"{file}: not checked, as no mark says where they come from: tables at lines {lines}", err=True)
        if found.differences:
            differing.append(file)
        else:
            click.echo(f"{file}: {found.blocks} blocks agree with {digest.results.folder}")
    if differing:
        names = ", ".join(map(str, differing))
        again = " ".join(f"--update {shlex.quote(str(file))}" for file in differing)
        click.echo(f"{names} differ from {digest.results.folder}; write with {again}", err=True)
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
