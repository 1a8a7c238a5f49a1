"""Command: train one run <X,Y> — Default for X epochs, then a spiking head for Y epochs by BPTT."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from neurons.names import list_neurons
from neurons.parameters import SURROGATES
from resnet_spiking.data.names import DATASETS
from resnet_spiking.errors import UserError
from resnet_spiking.network.names import BACKBONES
from resnet_spiking.terminal import OneLineCommand

HELP = """Train Default for X epochs, branch, and train a spiking head for Y epochs by surrogate-gradient BPTT.

Without options: scikit-learn's digits on the bundled ResNet-18 encoder, <5,5>, no network needed.

\b
A run on your own pictures (train/<class>/…, test/<class>/…):
  python -m resnet_spiking.train --neuron snntorch-lif --dataset folder --data-dir PICTURES
Default alone:
  python -m resnet_spiking.train --neuron none
Every neuron on one frozen network, seconds each once the first is done:
  python -m resnet_spiking.train --neuron paralif-sb --train head
Neurons in stage 4 too:
  python -m resnet_spiking.train --neuron lif --spiking stage
From scratch, nothing pretrained and nothing frozen:
  python -m resnet_spiking.train --weights none --freeze-depth 0 --epochs 15,5
"""


@click.command(cls=OneLineCommand, help=HELP, context_settings={"show_default": True, "max_content_width": 110})
@click.option(
    "--neuron",
    default="snntorch-lif",
    metavar="NAME",
    help=f"One of {', '.join(list_neurons())}; or none: Default alone.",
)
@click.option(
    "--mode",
    default="shared",
    metavar="shared|native",
    help="One equation for all libraries, or each as its users get it.",
)
@click.option("--epochs", default="5,5", metavar="X,Y", help="Epochs of Default, epochs of the spiking branch.")
@click.option(
    "--train",
    default="decoder",
    metavar="decoder|head",
    help="What the Y epochs train: remaining stages and head, or the head alone.",
)
@click.option(
    "--spiking",
    default="head",
    metavar="head|stage",
    help="Where the neurons are: in the head, or also in the place of stage 4's ReLUs.",
)
@click.option("--dataset", default="digits", metavar="NAME", help=f"One of {', '.join(DATASETS)}.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the data is (or is downloaded to).")
@click.option("--backbone", default="resnet18", metavar="NAME", help=f"One of {', '.join(BACKBONES)}.")
@click.option(
    "--weights",
    help="imagenet, bundled, none, or a file (.safetensors, .pth).  "
    "[default: bundled for digits on resnet18, else imagenet]",
)
@click.option("--freeze-depth", type=int, default=3, help="Freeze the stem and this many residual stages (0..4).")
@click.option(
    "--image-size", type=int, help="Side in pixels that images are resized to.  [default: 64 for digits, else 224]"
)
@click.option("-T", "--num-steps", type=int, default=20, help="Time steps.")
@click.option("--encoding", default="direct", metavar="direct|rate", help="Constant current, or Bernoulli spikes.")
@click.option("--hidden", default="256", metavar="N[,N…]", help="Width of each spiking layer.")
@click.option("--readout", default="mean", metavar="mean|sum|last|membrane", help="How output currents become logits.")
@click.option("--beta", type=float, default=0.9, help="Membrane decay per step.")
@click.option("--alpha", type=float, help="Synapse decay per step, for neurons with a synapse.")
@click.option("--threshold", type=float, default=1.0, help="Firing threshold.")
@click.option("--reset", default="zero", metavar="zero|subtract|none", help="What a spike does to the membrane.")
@click.option("--detach-reset/--no-detach-reset", default=True, help="Keep the reset out of the gradient.")
@click.option("--surrogate", default="atan", metavar="NAME", help=f"Surrogate gradient: {', '.join(SURROGATES)}.")
@click.option("--slope", type=float, default=2.0, help="Its slope.")
@click.option("--learn-beta", is_flag=True, help="Train the membrane decay too.")
@click.option("-b", "--batch-size", type=int, default=128)
@click.option(
    "--optimizer",
    default="adamw",
    metavar="adamw|sgd|muon",
    help="muon: orthogonalised momentum for the stages' kernels, AdamW for the rest; slower steps that learn more.",
)
@click.option("--lr", type=float, default=1e-3, help="Peak learning rate of Default and of the stages.")
@click.option("--head-lr", type=float, default=1e-3, help="Peak learning rate of the spiking head.")
@click.option(
    "--branch-lr",
    type=float,
    help="Peak learning rate of the stages while the branch trains them (--train decoder).  [default: --lr]",
)
@click.option(
    "--layer-decay",
    type=float,
    default=1.0,
    help="Each stage below the fourth learns at this share of the rate of the one above it.",
)
@click.option("--momentum", type=float, default=0.9, help="For sgd.")
@click.option("--weight-decay", type=float, default=0.05)
@click.option("--schedule", default="cosine", metavar="cosine|constant")
@click.option("--label-smoothing", type=float, default=0.1)
@click.option(
    "--mixup", type=float, default=0.0, help="Mix features of two images, share from Beta(MIXUP, MIXUP); 0: off."
)
@click.option(
    "--distill",
    type=float,
    default=0.0,
    metavar="W",
    help="Share of the branch's loss that is the divergence from Default's outputs; 0: off.",
)
@click.option("--distill-temperature", type=float, default=2.0, help="Softens both outputs before they are compared.")
@click.option(
    "--flip/--no-flip", default=None, help="Train on mirror images too.  [default: where the dataset allows it]"
)
@click.option("--shifts", type=int, default=0, help="Train on this many randomly shifted copies of each image too.")
@click.option(
    "--precision",
    default="auto",
    metavar="auto|bf16|fp32",
    help="Of convolutions in training, and of Muon's iteration; auto: bf16 where the device has matrix units for it, "
    "else fp32. Neuron state and the final test are fp32.",
)
@click.option("--train-samples", type=int, help="Use only this many training images.")
@click.option("--test-samples", type=int, help="Use only this many test images.")
@click.option("--seed", type=int, default=0, help="Fixes weights, order, augmentation, encoding and stochastic spikes.")
@click.option("--head-seed", type=int, help="A seed of its own for the spiking branch.  [default: --seed]")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    help="Run folder.  [default: runs/<dataset>-<backbone>-<neuron>[-stage]-<X>-<Y>-s<seed>]",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="Feature cache.  [default: resnet_spiking/features in the user's cache folder]",
)
@click.option("--no-cache", is_flag=True, help="Compute frozen features for every batch.")
@click.option("--resume", is_flag=True, help="Continue the run in --output-dir.")
@click.option("--overwrite", is_flag=True, help="Replace the run in --output-dir.")
def main(
    epochs: str, hidden: str, weights: str | None, image_size: int | None, device: str, data_dir: Path | None,
    output_dir: Path | None, cache_dir: Path | None, no_cache: bool, resume: bool, overwrite: bool, **settings: Any,
) -> None:  # fmt: skip
    from resnet_spiking.config import RunConfig, integers
    from resnet_spiking.data.names import usual_inputs

    if cache_dir and no_cache:
        raise UserError("--cache-dir and --no-cache contradict each other; give one of them")
    first, then = integers("--epochs", epochs, 2)
    usual = usual_inputs(settings["dataset"], settings["backbone"])
    config = RunConfig(
        default_epochs=first,
        spiking_epochs=then,
        hidden=integers("--hidden", hidden),
        weights=weights or usual.weights,
        image_size=usual.image_size if image_size is None else image_size,
        **settings,
    )
    where = "-stage" if config.spiking == "stage" else ""
    output = output_dir or Path(
        "runs", f"{config.dataset}-{config.backbone}-{config.neuron}{where}-{first}-{then}-s{config.seed}"
    )

    from resnet_spiking.environment import Environment
    from resnet_spiking.errors import Interrupted
    from resnet_spiking.network.build import check_head
    from resnet_spiking.terminal import cache_root, choose_device, given_options, progress_bars, stop_signal
    from resnet_spiking.training.run import train_run

    given = [name for name in given_options(click.get_current_context()) if name in settings]
    check_head(config, given)
    for name, beside in config.unread().items():
        if name in given:
            click.echo(f"--{name.replace('_', '-')} has no effect with {beside}", err=True)
    with stop_signal() as should_stop, progress_bars() as progress:
        environment = Environment(
            device=choose_device(device),
            data_dir=data_dir,
            cache_dir=None if no_cache else cache_dir or cache_root(),
            report=lambda line: click.echo(line, err=True),
            progress=progress,
            should_stop=should_stop,
        )
        try:
            result = train_run(config, output, environment, resume=resume, overwrite=overwrite)
        except Interrupted as stopped:
            result, begun = None, stopped.begun
    if result is None:
        if not begun:
            click.echo(f"stopped; {output} is as it was, and the same command continues", err=True)
        else:
            how = ", --resume in place of --overwrite, and" if overwrite else " and --resume"
            click.echo(
                f"stopped and saved; continue with the same command{how} --output-dir {shlex.quote(str(output))}",
                err=True,
            )
        raise click.exceptions.Exit(130)

    from resnet_spiking.reports.summary import print_summary

    print_summary(result, output)


if __name__ == "__main__":
    main()
