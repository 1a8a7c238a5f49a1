"""Command: train the small encoder that the package ships."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from resnet_spiking.errors import UserError
from resnet_spiking.terminal import OneLineCommand


@click.command(cls=OneLineCommand, help=__doc__)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Image folder: train/<class>/… and test/<class>/….",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The .safetensors file to write."
)
@click.option(
    "--depth", type=click.IntRange(1, 4), default=3, show_default=True, help="Keep the stem and this many stages."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Fixes weights, order and augmentation.",
)
def main(data_dir: Path, output: Path, depth: int, seed: int) -> None:
    from rich.progress import Progress

    from resnet_spiking.data.folder import load_folder
    from resnet_spiking.training.encoder import EncoderRecipe, describe, save_encoder, train_encoder

    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}; make it, or name another file")
    if output.exists():
        raise UserError(f"--output {output} exists already; name another file")
    try:
        # Now, and not when there is a network to lose.
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise UserError(f"--output {output}: cannot write there ({error.strerror}); name another file") from None
    recipe = EncoderRecipe(seed=seed)
    data = load_folder(data_dir, side=recipe.sides[-1])
    if len(data.train) < recipe.batch_size:
        raise UserError(
            f"{data_dir} has {len(data.train)} training images, fewer than a batch of {recipe.batch_size}; give more"
        )
    smallest = min(data.train.images.shape[2:])
    if smallest <= recipe.shift:
        raise UserError(
            f"{data_dir} has images of {smallest} pixels, and training shifts them by up to {recipe.shift}; "
            "give larger ones"
        )
    with Progress() as progress:
        task = progress.add_task("training", total=len(recipe.sides))

        def show(epoch: int, step: int, steps: int, loss: float) -> None:
            progress.update(
                task, completed=epoch + (step + 1) / steps, description=f"epoch {epoch + 1} loss {loss:.3f}"
            )
            if step + 1 == steps:
                progress.console.print(f"epoch {epoch + 1}/{len(recipe.sides)} loss {loss:.4f}")

        network, accuracy = train_encoder(data, recipe, show)
    save_encoder(
        network,
        output,
        depth,
        {
            **describe(recipe),
            "data": data.sha256,
            "classes": ",".join(data.classes),
            "test_accuracy": f"{accuracy:.4f}",
        },
    )
    click.echo(f"test accuracy {accuracy:.2%} at {recipe.sides[-1]} px (fp32 arithmetic, bf16 weights); wrote {output}")


if __name__ == "__main__":
    main()
