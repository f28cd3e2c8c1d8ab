"""The verbs that train networks and use them: run, zoom, compare, worker, champion, predict, export."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .session import INTERRUPTED, Session, say, with_session

if TYPE_CHECKING:
    from ..commands.run import Progress
    from ..storage.home import Home

_FORMAT = "{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}<{remaining}{postfix}"


class ProgressBar:
    """A line on stderr for each study that runs: trials done, best so far, pruned, time left."""

    def __init__(self) -> None:
        self._study = ""
        self._bar: Any = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def show(self, progress: "Progress") -> None:
        """Show how far a run is; another study gets another line."""
        from tqdm import tqdm

        if progress.study != self._study:
            self._close()
        if self._bar is None:
            self._study = progress.study
            n, total, name = progress.done, progress.budget, progress.study
            self._bar = tqdm(total=total, initial=n, desc=name, dynamic_ncols=True, bar_format=_FORMAT)
        self._bar.total = progress.budget
        self._bar.update(progress.done - self._bar.n)
        best = "–" if progress.best_value is None else f"{progress.best_value:.4f}"
        failed = f", {progress.failed} failed" if progress.failed else ""
        self._bar.set_postfix_str(f"best {best}, {progress.pruned} pruned{failed}")

    def count(self, done: int, total: int) -> None:
        """Show how many of a race's trainings have ended, of how many there are at most."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=total, desc="race", unit="training", dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        """Print a line below the last study's."""
        self._close()
        click.echo(line, err=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@click.command()
@click.argument("study_file", type=click.Path(path_type=Path), metavar="STUDY.toml")
@click.option("--trials", type=int, help="Budget: how many trials to finish, those of earlier runs included.")
@click.option("--workers", type=int, help="How many workers share the study.")
@click.option("--engine", help="Where they run: processes of this machine, or actors of a cluster of ray.")
@click.option("--ray-address", help="Ray's cluster; by default that of RAY_ADDRESS, or a new one on this machine.")
@click.option("--timeout", "timeout_s", type=float, help="Seconds after which no new trial starts.")
@click.option("--trainer", help="auto, fleet or solo.")
@click.option("--sampler", help="zoom, random, grid, qmc, tpe, cmaes, gp, or package.module:Class.")
@click.option("--pruner", help="promotion, none, median, hyperband, …, or package.module:Class.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a value of the study file.")
@click.option("--from", "source", metavar="STUDY", help="Start a new study from what another one has learned.")
@click.option("--fresh", is_flag=True, help="Archive the existing study of this name and start a new one.")
@click.option("--dry-run", is_flag=True, help="Check the study file and print what would run.")
@with_session
def run(
    study_file: Path,
    *,
    settings: tuple[str, ...],
    source: str | None,
    fresh: bool,
    ray_address: str | None,
    dry_run: bool,
    session: Session,
    **search: object,
) -> None:
    """Run a study, or resume it, until its budget is spent.

    \b
    Example:
      caviar run studies/digits.toml
      caviar run studies/digits.toml --trials 120
      caviar run fashion.toml --from digits
      caviar run studies/digits.toml --engine ray --workers 64 --ray-address ray://head:10001
    """
    from ..engines.fork_server import start_fork_server
    from ..errors import SpecError
    from ..spec import read_spec

    given = [f"search.{key}={json.dumps(value)}" for key, value in search.items() if value is not None]
    spec = read_spec(study_file, settings=[*settings, *given])
    if ray_address is not None and spec.search.engine != "ray":
        raise SpecError("--ray-address names a Ray cluster, but the workers run as processes here. Add --engine ray.")
    if ray_address is not None:
        os.environ["RAY_ADDRESS"] = ray_address  # Ray's own variable, which all commands that train read
    if not dry_run and spec.search.engine == "processes":
        start_fork_server(session.tracking_uri)  # TensorFlow loads while this process imports the rest
    from ..commands.run import dry_run_lines, result_lines, run_study

    home = session.home()
    if source is not None and source.endswith(".toml"):
        source = str(Path(source).absolute())  # the study's own code may change the directory before this is read
    if dry_run:
        lines = dry_run_lines(spec, home, source=source, fresh=fresh)
        session.print(lines, lambda: "\n".join(lines))
        return
    with ProgressBar() as bar:
        result = run_study(spec, home, source=source, fresh=fresh, on_progress=bar.show)
    say(result_lines(result, spec.name))
    _end(session, home, spec.name, interrupted=result.interrupted)


@click.command()
@click.argument("study")
@click.option("--keep", type=float, help="Share of the trials that counts as the best, in (0, 1); by default 0.2.")
@click.option("--trials", type=int, help="New trials of the zoom; by default as many as the study had.")
@with_session
def zoom(study: str, *, keep: float | None, trials: int | None, session: Session) -> None:
    """Search the narrower space of a study's best trials.

    A zoom is a study of its own. The same command resumes one that is not finished.

    \b
    Example:
      caviar zoom digits
      caviar zoom digits-zoom-1 --keep 0.1 --trials 50
    """
    from ..commands.zoom import outcome_lines, outcome_table, zoom_study

    home = session.home()
    with ProgressBar() as bar:
        outcome = zoom_study(home, study, keep=keep, trials=trials, on_progress=bar.show, say=bar.say)
    say(outcome_lines(outcome))
    interrupted = outcome.run is not None and outcome.run.interrupted
    _end(session, home, outcome.child or outcome.parent, interrupted=interrupted, zoom=outcome_table(outcome))


@click.command()
@click.argument("study_file", type=click.Path(path_type=Path), metavar="STUDY.toml")
@click.option(
    "--samplers", required=True, metavar="NAME,…", help="Two or more of grid, random, qmc, tpe, cmaes, gp, zoom."
)
@click.option(
    "--budget-epochs", type=int, help="Epochs for each search; by default a quarter of what the study file may spend."
)
@click.option("--repeats", type=int, help="Searches of each sampler, each with its own seed; by default 5.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a value of the study file.")
@click.option("--fresh", is_flag=True, help="Archive the studies of an earlier comparison and start over.")
@with_session
def compare(
    study_file: Path,
    *,
    samplers: str,
    budget_epochs: int | None,
    repeats: int | None,
    settings: tuple[str, ...],
    fresh: bool,
    session: Session,
) -> None:
    """Compare samplers on a study file.

    Each sampler gets the same epochs, with several seeds. The same command resumes a comparison.

    \b
    Example:
      caviar compare studies/digits.toml --samplers grid,random,qmc,tpe,zoom --budget-epochs 500 --repeats 6
    """
    from ..commands.compare import compare_samplers, comparison_summary, plan_comparison, written_lines
    from ..spec import read_spec

    names = [name.strip() for name in samplers.split(",") if name.strip()]
    spec = read_spec(study_file, settings=settings)
    plan = plan_comparison(spec, names, budget_epochs=budget_epochs, repeats=repeats)
    with ProgressBar() as bar:
        written = compare_samplers(plan, session.home(), fresh=fresh, on_progress=bar.show, say=bar.say)
    session.print(comparison_summary(written), lambda: "\n".join(written_lines(written)))
    if written.comparison is None:
        sys.exit(INTERRUPTED)


@click.command()
@click.argument("study")
@click.option("--trial", type=click.IntRange(min=0), help="Run this waiting trial alone.")
@with_session
def worker(study: str, *, trial: int | None, session: Session) -> None:
    """Join a study with one more worker, from any machine.

    It works until the study's budget is spent, or with --trial until that trial ends or is paused.

    \b
    Example:
      caviar worker digits --storage postgresql+psycopg://user@host/studies
    """
    from ..commands.work import work_on_existing

    home = session.home()
    work_on_existing(home, study, trial=trial)
    _end(session, home, study)


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
            home,
            study,
            top=top,
            seeds=seeds,
            ensemble=ensemble,
            fresh=fresh,
            again=again,
            on_trial=bar.count,
            say=bar.say,
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


def _end(session: Session, home: "Home", study: str, *, interrupted: bool = False, **also: Any) -> None:
    from ..commands.status import status_lines, study_status

    state = {**study_status(home, study), **also}
    session.print(state, lambda: "\n".join(status_lines(state)))
    if interrupted:
        sys.exit(INTERRUPTED)
