"""The verbs on data sets: datasets, datasets prepare."""

from pathlib import Path

import click

from .session import Session, with_session


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--all", "with_names", is_flag=True, help="Also list the data sets that are not prepared.")
@with_session
def datasets(context: click.Context, *, with_names: bool, session: Session) -> None:
    """List the data sets that studies can use, and which of them are prepared.

    \b
    Example:
      caviar datasets
      caviar datasets prepare fashion_mnist
    """
    if context.invoked_subcommand is not None:
        return
    from ..commands.datasets import dataset_rows, dataset_table

    rows = dataset_rows()
    session.print(rows, lambda: dataset_table(rows, with_names=with_names))


@datasets.command()
@click.argument("name")
@click.option(
    "--manual-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Directory with the data set's original files, for a machine without a network.",
)
@with_session
def prepare(name: str, *, manual_dir: Path | None, session: Session) -> None:
    """Prepare a TFDS data set, so that studies can use it.

    \b
    Example:
      caviar datasets prepare fashion_mnist --manual-dir fashion-mnist-files
    """
    from ..commands.datasets import dataset_table, prepare_row

    row = prepare_row(name, manual_dir=manual_dir)
    session.print(row, lambda: dataset_table([row]))
