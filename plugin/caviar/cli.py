"""The command line: each verb parses, calls one function of ``commands``, and prints."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import __version__
from .errors import CaviarError
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from .commands.run import RunResult
    from .storage.home import Home

_Function = TypeVar("_Function", bound=Callable[..., Any])
_INTERRUPTED = 130


class _CaviarGroup(click.Group):
    """Turns our errors into a line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CaviarError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            _fail("Interrupted. What is done is kept.", _INTERRUPTED)
        except Exception as error:
            if not _is_environments(error):
                raise
            _fail(f"{error}. What is done is kept; run the command again once that is mended.", 1)


@click.group(cls=_CaviarGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="caviar")
def main() -> None:
    """Find the best Keras network for a classification data set, and never lose a trial.

    \b
    Example:
      caviar run studies/digits.toml
      caviar status digits
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes to developers are not for the user
    if "" not in sys.path:
        sys.path.insert(0, "")  # `package.module:function` of a study file may stand where caviar is run


def _addresses(function: _Function) -> _Function:
    """Add the options that every verb has."""
    options = (
        click.option(
            *("--home", "home_path"),
            type=click.Path(path_type=Path),
            envvar="CAVIAR_HOME",
            default=Path("runs"),
            show_default=True,
            show_envvar=True,
            help="Directory below which everything is written.",
        ),
        click.option("--storage", envvar="CAVIAR_STORAGE", show_envvar=True, help="Address of Optuna's storage."),
        click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="Address of MLflow."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@main.command()
@click.argument("study_file", type=click.Path(path_type=Path), metavar="STUDY.toml")
@click.option("--trials", type=int, help="Budget: how many trials finish, earlier runs included.")
@click.option("--workers", type=int, help="Processes that share the study.")
@click.option("--timeout", "timeout_s", type=float, help="Seconds after which no new trial starts.")
@click.option("--trainer", help="auto, fleet or solo.")
@click.option("--sampler", help="random, grid, qmc, tpe, cmaes, gp, or package.module:Class.")
@click.option("--pruner", help="none, median, successive_halving, hyperband, …, or package.module:Class.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a value of the study file.")
@click.option("--fresh", is_flag=True, help="Archive the study of this name and begin a new one.")
@click.option("--dry-run", is_flag=True, help="Check the study file and print what would run.")
@_addresses
def run(
    study_file: Path,
    *,
    trials: int | None,
    workers: int | None,
    timeout_s: float | None,
    trainer: str | None,
    sampler: str | None,
    pruner: str | None,
    settings: tuple[str, ...],
    fresh: bool,
    dry_run: bool,
    home_path: Path,
    storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Run a study, or go on with it, until its budget is spent.

    \b
    Example:
      caviar run studies/digits.toml
      caviar run studies/digits.toml --trials 120
    """
    from .commands.run import dry_run_lines, run_study
    from .spec import read_spec

    options: dict[str, Any] = {"trials": trials, "workers": workers, "timeout_s": timeout_s}
    options |= {"trainer": trainer, "sampler": sampler, "pruner": pruner}
    given = [f"search.{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    spec = read_spec(study_file, settings=[*settings, *given])
    home = _locate(home_path, storage, tracking_uri)
    if dry_run:
        click.echo("\n".join(dry_run_lines(spec, home)))
        return
    with ProgressBar(spec.name) as bar:
        result = run_study(spec, home, fresh=fresh, on_progress=bar.show)
    _print_result(result, home, spec.name, as_json=as_json)
    if result.interrupted:
        sys.exit(_INTERRUPTED)


@main.command()
@click.argument("study")
@_addresses
def worker(study: str, *, home_path: Path, storage: str | None, tracking_uri: str | None, as_json: bool) -> None:
    """Join a study with one more worker, from this machine or another, until nothing is left to do.

    \b
    Example:
      caviar worker digits --storage postgresql+psycopg://user@host/studies
    """
    from .commands.opening import study_name
    from .commands.status import status_lines, study_status
    from .commands.work import work_on_existing

    home = _locate(home_path, storage, tracking_uri)
    name = study_name(study)
    work_on_existing(home, name)
    state = study_status(home, name)
    _print(state, lambda: "\n".join(status_lines(state)), as_json=as_json)


@main.command()
@click.argument("study")
@_addresses
def status(study: str, *, home_path: Path, storage: str | None, tracking_uri: str | None, as_json: bool) -> None:
    """Show how a study stands.

    \b
    Example:
      caviar status digits --json
    """
    from .commands.status import status_lines, study_status

    state = study_status(_locate(home_path, storage, tracking_uri), study)
    _print(state, lambda: "\n".join(status_lines(state)), as_json=as_json)


@main.command()
@click.argument("study")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@_addresses
def trials(
    study: str, *, as_csv: bool, home_path: Path, storage: str | None, tracking_uri: str | None, as_json: bool
) -> None:
    """List a study's trials, a row each.

    \b
    Example:
      caviar trials digits --csv > trials.csv
    """
    from .commands.trials import list_trials, trials_csv, trials_table

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other.")
    rows = list_trials(_locate(home_path, storage, tracking_uri), study)
    _print(rows, lambda: trials_csv(rows).rstrip("\n") if as_csv else trials_table(rows), as_json=as_json)


@main.command()
@click.argument("study")
@_addresses
def report(study: str, *, home_path: Path, storage: str | None, tracking_uri: str | None, as_json: bool) -> None:
    """Write a report on a study: importance, curves, time and cost, and what to try next.

    \b
    Example:
      caviar report digits
    """
    from .commands.report import report_lines, report_study, report_summary

    written = report_study(_locate(home_path, storage, tracking_uri), study)
    _print(report_summary(written), lambda: "\n".join(report_lines(written)), as_json=as_json)


@main.command()
@click.argument("study_file", type=click.Path(path_type=Path), metavar="STUDY.toml")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a value of the study file.")
@_addresses
def check(
    study_file: Path,
    *,
    settings: tuple[str, ...],
    home_path: Path,
    storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Validate a study file, build one network and time it; say whether Panda or Caviar fits.

    \b
    Example:
      caviar check studies/digits.toml
    """
    from .commands.check import check_lines, check_spec
    from .spec import read_spec

    _locate(home_path, storage, tracking_uri)
    result = check_spec(read_spec(study_file, settings=settings))
    _print(dataclasses.asdict(result), lambda: "\n".join(check_lines(result)), as_json=as_json)


@main.group(invoke_without_command=True)
@click.pass_context
@click.option("--all", "with_names", is_flag=True, help="Name those that are not prepared too.")
@_addresses
def datasets(
    context: click.Context,
    *,
    with_names: bool,
    home_path: Path,
    storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """List the data sets that can be used, and which are prepared.

    \b
    Example:
      caviar datasets
      caviar datasets prepare fashion_mnist
    """
    if context.invoked_subcommand is not None:
        return
    from .commands.datasets import dataset_rows, dataset_table

    del home_path, storage, tracking_uri
    rows = dataset_rows()
    _print(rows, lambda: dataset_table(rows, with_names=with_names), as_json=as_json)


@datasets.command()
@click.argument("name")
@click.option(
    "--manual-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Directory that holds the data set's original files, for a machine without a network.",
)
@_addresses
def prepare(
    name: str,
    *,
    manual_dir: Path | None,
    home_path: Path,
    storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Prepare a TFDS data set, so that studies can read it.

    \b
    Example:
      caviar datasets prepare fashion_mnist --manual-dir fashion-mnist-files
    """
    from .commands.datasets import dataset_table, prepare_row

    del home_path, storage, tracking_uri
    row = prepare_row(name, manual_dir=manual_dir)
    _print(row, lambda: dataset_table([row]), as_json=as_json)


@main.command()
@click.argument("study")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_addresses
def delete(
    study: str, *, yes: bool, home_path: Path, storage: str | None, tracking_uri: str | None, as_json: bool
) -> None:
    """Delete a study with its trials; asks first.

    \b
    Example:
      caviar delete digits
    """
    from .commands.delete import delete_study, describe_deletion

    home = _locate(home_path, storage, tracking_uri)
    what = describe_deletion(home, study)
    if not yes and not click.confirm(f"Delete {what}?", err=True):
        click.echo("Nothing was deleted.", err=True)
        sys.exit(1)
    in_mlflow = delete_study(home, study)
    if not in_mlflow:
        click.echo("MLflow could not be reached: its runs are still there.", err=True)
    _print({"deleted": study, "mlflow": in_mlflow}, lambda: f"Deleted {what}.", as_json=as_json)


@main.command()
@click.argument("study")
@_addresses
def sync(study: str, *, home_path: Path, storage: str | None, tracking_uri: str | None, as_json: bool) -> None:
    """Fill in what MLflow lacks of a study, after it was down for instance.

    \b
    Example:
      caviar sync digits
    """
    from .commands.sync import sync_study

    filled, failed = sync_study(_locate(home_path, storage, tracking_uri), study)
    _print({"filled": filled, "failed": failed}, lambda: f"{filled} trials filled in.", as_json=as_json)
    if failed:
        _fail(f"{failed} trials could not be recorded: MLflow is down. Run this again later.", 1)


@main.command()
@click.argument("study", required=False)
@click.option("--fix", is_flag=True, help="Mend what is safe to mend.")
@_addresses
def doctor(
    study: str | None,
    *,
    fix: bool,
    home_path: Path,
    storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Look storage, tracking, disk and studies over; say what is wrong and what to do.

    \b
    Example:
      caviar doctor
      caviar doctor digits --fix
    """
    from .commands.doctor import doctor_lines, doctor_report, examine, is_healthy
    from .storage.home import address_home

    home = address_home(home_path, storage=storage, tracking_uri=tracking_uri)  # unsound addresses are findings
    findings = examine(home, study, fix=fix)
    _print(doctor_report(findings), lambda: "\n".join(doctor_lines(findings, home)), as_json=as_json)
    if not is_healthy(findings):
        sys.exit(1)


def _print_result(result: "RunResult", home: "Home", name: str, *, as_json: bool) -> None:
    from .commands.run import result_lines
    from .commands.status import status_lines, study_status

    for line in result_lines(result, name):
        click.echo(line, err=True)
    state = study_status(home, name)
    _print(state, lambda: "\n".join(status_lines(state)), as_json=as_json)


def _print(value: Any, text: Callable[[], str], *, as_json: bool) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False) if as_json else text())


def _locate(home_path: Path, storage: str | None, tracking_uri: str | None) -> "Home":
    import optuna

    from .storage.home import locate_home

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return locate_home(home_path, storage=storage, tracking_uri=tracking_uri)


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(exit_code)


def _is_environments(error: Exception) -> bool:
    """Tell whether a full disk, a locked database or the like is at fault, and not this program."""
    from optuna.exceptions import StorageInternalError

    return isinstance(error, OSError | StorageInternalError)
