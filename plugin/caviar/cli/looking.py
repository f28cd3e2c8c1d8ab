"""The verbs that look at studies and care for them: status, trials, report, check, datasets, delete, sync, doctor."""

import dataclasses
import sys
from pathlib import Path

import click

from .session import Session, fail, with_session


@click.command()
@click.argument("study")
@with_session
def status(study: str, *, session: Session) -> None:
    """Show the progress of a study and its zooms, and the best trial.

    \b
    Example:
      caviar status digits --json
    """
    from ..commands.status import status_lines, study_status

    state = study_status(session.home(), study)
    session.print(state, lambda: "\n".join(status_lines(state)))


@click.command()
@click.argument("study")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@with_session
def trials(study: str, *, as_csv: bool, session: Session) -> None:
    """List a study's trials, one a row.

    \b
    Example:
      caviar trials digits --csv > trials.csv
    """
    from ..commands.status import list_trials, trials_csv, trials_table

    if as_csv and session.as_json:
        raise click.UsageError("--csv and --json exclude each other.")
    rows = list_trials(session.home(), study)
    session.print(rows, lambda: trials_csv(rows) if as_csv else trials_table(rows))


@click.command()
@click.argument("study")
@with_session
def report(study: str, *, session: Session) -> None:
    """Write a report on a study.

    It shows importance, curves, zooms, time, cost, and what to try next.

    \b
    Example:
      caviar report digits
    """
    from ..commands.report import report_lines, report_study, report_summary

    written = report_study(session.home(), study)
    session.print(report_summary(written), lambda: "\n".join(report_lines(written)))


@click.command()
@click.argument("study_file", type=click.Path(path_type=Path), metavar="STUDY.toml")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a value of the study file.")
@with_session
def check(study_file: Path, *, settings: tuple[str, ...], session: Session) -> None:
    """Validate a study file; build and time one network.

    It says whether Panda (babysit one network) or Caviar (train many) fits.

    \b
    Example:
      caviar check studies/digits.toml
    """
    from ..commands.check import check_lines, check_spec
    from ..spec import read_spec

    session.home()
    result = check_spec(read_spec(study_file, settings=settings))
    session.print(dataclasses.asdict(result), lambda: "\n".join(check_lines(result)))


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--all", "with_names", is_flag=True, help="Also list the data sets that are not prepared.")
@with_session
def datasets(context: click.Context, *, with_names: bool, session: Session) -> None:
    """List the data sets that studies can use.

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


@click.command()
@click.argument("study")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@with_session
def delete(study: str, *, yes: bool, session: Session) -> None:
    """Delete a study with its trials and its zooms, after asking.

    \b
    Example:
      caviar delete digits
    """
    from ..commands.family import delete_study, describe_deletion

    home = session.home()
    what, uid = describe_deletion(home, study)
    if not yes and not click.confirm(f"Delete {what}?", err=True):
        click.echo("Nothing was deleted.", err=True)
        sys.exit(1)
    in_mlflow = delete_study(home, study, uid=uid)
    if not in_mlflow:
        click.echo("MLflow could not be reached, so it still has the runs.", err=True)
    session.print({"deleted": study, "mlflow": in_mlflow}, lambda: f"Deleted {what}.")


@click.command()
@click.argument("study")
@with_session
def sync(study: str, *, session: Session) -> None:
    """Give MLflow all that it lacks of a study, after it was down or into another store.

    \b
    Example:
      caviar sync digits
    """
    from ..commands.sync import sync_all

    synced = sync_all(session.home(), study)
    session.print(dataclasses.asdict(synced), lambda: f"Recorded {synced.filled} trials in MLflow.")
    if synced.failed:
        fail(f"{synced.failed} trials could not be recorded; the warning above says why. Run this again later.", 1)


@click.command()
@click.argument("study", required=False)
@click.option("--fix", is_flag=True, help="Fix what can be fixed safely.")
@with_session
def doctor(study: str | None, *, fix: bool, session: Session) -> None:
    """Check storage, tracking, disk and studies.

    It says what is wrong and what to do about it.

    \b
    Example:
      caviar doctor
      caviar doctor digits --fix
    """
    from ..health.doctor import doctor_lines, doctor_report, examine, is_healthy

    home = session.home(checked=False)  # a wrong address is a finding
    findings = examine(home, study, fix=fix)
    session.print(doctor_report(findings), lambda: "\n".join(doctor_lines(findings, home)))
    if not is_healthy(findings):
        sys.exit(1)
