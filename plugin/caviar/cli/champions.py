"""The verbs that turn a search into a network in use: champion, predict, export."""

import sys
from pathlib import Path

import click

from .progress_bar import ProgressBar
from .session import INTERRUPTED, Session, say, with_session


@click.command()
@click.argument("study")
@click.option("--top", type=int, default=5, show_default=True, help="How many of the best trials race.")
@click.option("--seeds", type=int, default=5, show_default=True, help="Trainings of each, on average.")
@click.option("--ensemble", type=int, metavar="K", help="Average K networks of the winner, if that is better than one.")
@click.option("--fresh", is_flag=True, help="Archive an earlier race and begin a new one.")
@click.option("--again", is_flag=True, help="Read the test split a second time; that is written down.")
@with_session
def champion(
    study: str, *, top: int, seeds: int, ensemble: int | None, fresh: bool, again: bool, session: Session
) -> None:
    """Find the network of a study that is really best, train it on all data, test it once, and export it.

    \b
    Example:
      caviar champion digits
      caviar champion digits --top 8 --seeds 10
    """
    from ..commands.champion import champion_lines, make_champion

    home = session.home()
    with ProgressBar() as bar:
        result = make_champion(
            home, study, top=top, seeds=seeds, ensemble=ensemble, fresh=fresh, again=again, on_trial=bar.count
        )
    if result.description is None:
        say(champion_lines(result))
        sys.exit(INTERRUPTED)
    session.print({**result.description, "directory": str(result.directory)}, lambda: "\n".join(champion_lines(result)))


@click.command()
@click.argument("champion")
@click.argument("path", type=click.Path(path_type=Path), metavar="INPUT")
@click.option("--output", type=click.Path(path_type=Path), help="A .csv, .json or .parquet file; default: print CSV.")
@click.option("--strict", is_flag=True, help="Refuse values that no row of training had.")
@with_session
def predict(champion: str, path: Path, *, output: Path | None, strict: bool, session: Session) -> None:
    """Predict the label and the probabilities of every row of a table, array, image or folder of images.

    \b
    Example:
      caviar predict digits new.npy
      caviar predict iris flowers.csv --output labels.parquet
    """
    from ..commands.predict import predict_file

    home = session.home()
    with session.writing() as results:
        n = predict_file(home, champion, path, output=output, results=results, strict=strict)
    if output is not None:
        session.print({"output": str(output), "examples": n}, lambda: f"{n} predictions in {output}")


@click.command()
@click.argument("champion")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE")
@with_session
def export(champion: str, path: Path, *, session: Session) -> None:
    """Write a champion's network to an .onnx or .tflite file, for machines without TensorFlow.

    \b
    Example:
      caviar export digits digits.tflite
      caviar export digits digits.onnx
    """
    from ..commands.predict import export_champion

    export_champion(session.home(), champion, path)
    session.print({"output": str(path)}, lambda: str(path))
