"""Command: show a study's results as tables, figures and one page, or check a README against them."""

from __future__ import annotations

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
Compare the tables of a README with the results (exit status 1 where they differ), or write them:
  python -m resnet_spiking.report --check README.md results
  python -m resnet_spiking.report --update README.md results

\b
A README's table stands between <!-- report: REQUEST --> and <!-- /report -->. A REQUEST is
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
    "--check", type=click.Path(path_type=Path), metavar="README", help="Compare marked tables with the results."
)
@click.option(
    "--update", type=click.Path(path_type=Path), metavar="README", help="Write marked tables from the results."
)
def main(
    study: Path | None, output_dir: Path | None, only: str, parquet: bool, table: str | None, check: Path | None,
    update: Path | None,
) -> None:  # fmt: skip
    if sum(option is not None for option in (table, check, update)) > 1:
        raise UserError("--table, --check and --update each do one thing: give one of them")
    if (table or check or update) and (output_dir or only or parquet):
        raise UserError("--output-dir, --only and --parquet belong to a whole report; leave them out")
    readme = check or update
    if study is None:
        if readme is None:
            raise UserError("name a study folder or its results folder, such as studies/quick")
        study = readme.parent / "results"

    from resnet_spiking.reports.collection import load_collection
    from resnet_spiking.reports.digest import Digest

    digest = Digest.of(load_collection(study), study)
    if table:
        from resnet_spiking.reports.readme import KINDS, render
        from resnet_spiking.reports.request import parse_request

        click.echo(render(parse_request(table, KINDS), digest))
    elif check:
        _check(check, digest)
    elif update:
        from resnet_spiking.reports.readme import update_readme

        click.echo(f"{update}: {update_readme(update, digest)} blocks written from {digest.results.folder}")
    else:
        _write(digest, output_dir or digest.results.folder.parent / "report", only, parquet)


def _write(digest: Digest, output: Path, only: str, parquet: bool) -> None:
    from resnet_spiking.reports.request import parse_request
    from resnet_spiking.reports.write import write_report

    if only:
        digest = digest.only(parse_request(f"report {only}", {"report": frozenset()}))
    for path in write_report(digest, output, parquet=parquet):
        if path.parent == output:
            click.echo(path)
    click.echo(f"{output / 'tables'}, {output / 'figures'}")


def _check(readme: Path, digest: Digest) -> None:
    from resnet_spiking.reports.readme import check_readme

    found = check_readme(readme, digest)
    for difference in found.differences:
        click.echo(f"{readme}:{difference.line}: {difference.request}: {difference.what}")
    if found.unmarked:
        lines = ", ".join(map(str, found.unmarked))
        click.echo(f"not checked, as no mark says where they come from: tables at lines {lines}", err=True)
    if found.differences:
        click.echo(f"{readme} differs from {digest.results.folder}; write it with --update {readme}", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"{readme}: {found.blocks} blocks agree with {digest.results.folder}")


if __name__ == "__main__":
    main()
