"""The verbs that keep studies in order: delete, sync, doctor."""

import sys

import click

from .session import Session, fail, with_session


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
    """Record the trials that MLflow lacks, after it was down.

    \b
    Example:
      caviar sync digits
    """
    from ..health.mending import sync_study

    filled, failed = sync_study(session.home(), study)
    session.print({"filled": filled, "failed": failed}, lambda: f"Recorded {filled} trials in MLflow.")
    if failed:
        fail(f"{failed} trials could not be recorded; the warning above says why. Run this again later.", 1)


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
