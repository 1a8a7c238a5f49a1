"""Command: attack finished runs on the same images, or verify such a result."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from resnet_spiking.attacks.bundles import BUNDLES
from resnet_spiking.attacks.gradients.names import list_modes
from resnet_spiking.attacks.names import ATTACKS, RADII
from resnet_spiking.terminal import OneLineCommand

HELP = f"""Attack each RUN on the same test images: accuracy at each eps in the worst case over a bundle.

Bundles: {"; ".join(f"{bundle.name} ({bundle.summary})" for bundle in BUNDLES.values())}.
Attacks: {", ".join(ATTACKS)}.
Gradient modes for --gradient: {", ".join(list_modes())}; a slope after a colon, as in atan:2.

\b
Two runs, paired with their Default:
  python -m resnet_spiking.attack runs/A runs/B --bundle standard --samples 1000
Rescore stored adversarial images in this process, without attacking:
  python -m resnet_spiking.attack --verify RESULT

Exit status of --verify: 0 verified, 1 something differs.
"""


@click.command(cls=OneLineCommand, help=HELP, context_settings={"show_default": True, "max_content_width": 110})
@click.argument("runs", nargs=-1, metavar="RUN [RUN…]", type=click.Path(path_type=Path))
@click.option("--verify", metavar="RESULT", type=click.Path(path_type=Path), help="Rescore the result in this folder.")
@click.option("--bundle", metavar="NAME", help=f"One of {', '.join(BUNDLES)}.  [default: quick]")
@click.option("--attack", metavar="NAME", help="A single attack with its own defaults instead of a bundle.")
@click.option("--gradient", metavar="MODE", help="For --attack: how spikes are differentiated.")
@click.option("--norm", default="linf", metavar="linf|l2", help="Of the change, pixels in [0, 1].")
@click.option(
    "--eps",
    metavar="E[,E…]",
    help="Radii, ascending: fractions such as 8/255, or numbers.  "
    f"[default: {','.join(RADII['linf'])}; for l2 {','.join(RADII['l2'])}]",
)
@click.option(
    "--samples",
    type=int,
    help="Test images, class-balanced, the same for every run.  [default: 1000, or all where there are fewer]",
)
@click.option(
    "--order",
    default="ascending",
    metavar="ascending|descending",
    help="Of the radii. Descending: what stands at one is taken to stand at every smaller one; fewer iterations.",
)
@click.option(
    "--rule", metavar="majority|expected", help="When a stochastic head counts as right.  [default: majority]"
)
@click.option("--draws", type=int, default=20, help="Draws of a stochastic head per gradient.")
@click.option("--votes", type=int, default=20, help="Independent draws that decide.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the data is, when it has moved since training."
)
@click.option("--weights", help="The backbone's weights, when they have moved since training.")
@click.option("-b", "--batch-size", type=int, default=64)
@click.option("--seed", type=int, default=0, help="Fixes every random draw.")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    help="Result folder.  [default: attacks/<first run>-<bundle>-<norm>-s<seed>]",
)
@click.option("--resume", is_flag=True, help="Continue the evaluation in --output-dir, or add runs to it.")
@click.option(
    "--reuse",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="RESULT",
    help="Take over models that this evaluation finished on the same terms; give it again for another.",
)
@click.option(
    "--only",
    metavar="NAME[,NAME…]",
    help="Attack these alone: default, or a run's neuron; the other runs are what transfers come from.",
)
@click.option("--overwrite", is_flag=True, help="Replace the evaluation in --output-dir.")
def main(
    runs: tuple[Path, ...], verify: Path | None, bundle: str | None, attack: str | None, gradient: str | None,
    norm: str, eps: str | None, samples: int | None, order: str, rule: str | None, draws: int, votes: int,
    data_dir: Path | None, weights: str | None, batch_size: int, seed: int, device: str, output_dir: Path | None,
    resume: bool, reuse: tuple[Path, ...], only: str | None, overwrite: bool,
) -> None:  # fmt: skip
    from resnet_spiking.errors import UserError

    if verify is not None:
        if runs:
            raise UserError("--verify takes one result folder and no runs; the result names its runs")
        _refuse_beside_verify(click.get_current_context())
        _verify(verify, data_dir, weights, device)
    if not runs:
        raise UserError("name at least one run folder, or a result with --verify")
    if bundle and attack:
        raise UserError("--bundle and --attack exclude each other: give one of them")
    if gradient and not attack:
        raise UserError("--gradient goes with --attack; a bundle has its own gradient modes")

    from resnet_spiking.attacks.bundles import find_bundle, single
    from resnet_spiking.attacks.evaluation import evaluate
    from resnet_spiking.attacks.settings import make_settings
    from resnet_spiking.attacks.subjects import load_sample, load_subjects
    from resnet_spiking.environment import Environment
    from resnet_spiking.errors import Interrupted
    from resnet_spiking.reports.robustness import print_robustness
    from resnet_spiking.terminal import choose_device, progress_bars, stop_signal

    chosen = single(attack, gradient) if attack else find_bundle(bundle or "quick")
    settings = make_settings(
        chosen,
        norm,
        eps.split(",") if eps else RADII.get(norm, RADII["linf"]),
        seed=seed,
        batch_size=batch_size,
        rule=rule,
        draws=draws,
        votes=votes,
        order=order,
    )
    where = choose_device(device)
    output = output_dir or Path("attacks", f"{runs[0].resolve().name}-{chosen.name}-{norm}-s{seed}")
    subjects, notes = load_subjects(list(runs), weights=weights)
    for note in notes:
        click.echo(note, err=True)
    sample = load_sample(runs[0], samples, data_dir)
    with stop_signal() as should_stop, progress_bars() as progress:
        environment = Environment(
            device=where,
            report=lambda line: click.echo(line, err=True),
            progress=progress,
            should_stop=should_stop,
        )
        try:
            result = evaluate(
                subjects,
                sample,
                settings,
                output,
                environment,
                resume=resume,
                overwrite=overwrite,
                reuse=reuse,
                only=only.split(",") if only is not None else None,
            )
        except Interrupted:
            result = None
    if result is None:
        click.echo(
            f"stopped and saved; continue with the same command and --resume --output-dir {shlex.quote(str(output))}",
            err=True,
        )
        raise click.exceptions.Exit(130)
    print_robustness(result, output)


def _refuse_beside_verify(context: click.Context) -> None:
    """What decides an evaluation stands in the result; a value that would not be looked at is refused."""
    from resnet_spiking.errors import UserError
    from resnet_spiking.terminal import given_options

    options = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    for name in given_options(context):
        if name not in ("verify", "runs", "data_dir", "weights", "device"):
            raise UserError(
                f"{options[name]} has no meaning for --verify, which rescores what the result holds; "
                "leave it out (--data-dir, --weights and --device go with it)"
            )


def _verify(folder: Path, data_dir: Path | None, weights: str | None, device: str) -> None:
    from resnet_spiking.attacks.verify import verify_result
    from resnet_spiking.reports.summary import print_comparison
    from resnet_spiking.terminal import choose_device, progress_bars

    with progress_bars() as progress:
        rows = verify_result(
            folder,
            data_dir=data_dir,
            weights=weights,
            device=choose_device(device),
            progress=lambda done, total: progress("rescoring", done, total),
        )
    click.echo("what the trust checks found is read, not measured again: that takes attacks")
    print_comparison(rows, folder)
    raise click.exceptions.Exit(0 if all(row.agrees for row in rows) else 1)


if __name__ == "__main__":
    main()
