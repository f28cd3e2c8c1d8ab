"""The verbs for one trial under your eyes: control and replay."""

import dataclasses
import sys
from typing import Any

import click

from .session import Session, with_session


@click.command()
@click.argument("study")
@click.argument("trial", type=click.IntRange(min=0))
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="Change a live hyperparameter.")
@click.option("--epochs", type=int, help="Train this many epochs in all.")
@click.option("--back", type=int, metavar="EPOCH", help="Go back to the checkpoint after this epoch.")
@click.option("--pause", "action", flag_value="pause", help="Take it out of its lane until it is resumed.")
@click.option("--resume", "action", flag_value="resume", help="Let a worker go on with it.")
@click.option("--stop", "action", flag_value="stop", help="End it, and keep its best epoch.")
@click.option("--watch", "action", flag_value="watch", help="Store its curves and a checkpoint after every epoch.")
@click.option("--fork", "action", flag_value="fork", help="Begin another trial from it, with the values of --set.")
@click.option("--at", "epoch", type=int, metavar="EPOCH", help="Fork it after this epoch.")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=30.0, show_default=True, metavar="SECONDS")
@with_session
def control(study: str, trial: int, *, session: Session, wait_s: float, **asked: Any) -> None:
    """Steer a trial while it trains, from its next epoch on.

    Live hyperparameters: learning_rate, momentum, decay_rate, dropout, l2.

    \b
    Example:
      caviar control digits 7 --set learning_rate=0.01
    """
    from ..commands.control import control_trial, parse_request, result_line

    request = parse_request(**asked)
    result = control_trial(session.home(), study, trial, request, wait_s=wait_s)
    session.print(dataclasses.asdict(result), lambda: result_line(study, request, result))


@click.command()
@click.argument("study")
@click.option("--trial", type=click.IntRange(min=0), help="Take over this trial; by default a new one begins.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Another value than the best trial's.")
@with_session
def panda(study: str, *, trial: int | None, settings: tuple[str, ...], session: Session) -> None:
    """Babysit one trial: watch its curves in the terminal, and tune it as it learns.

    It begins with the best trial's hyperparameters, or takes over a trial that runs or waits. A worker of its own
    trains it, unless another one does, and goes on when you leave.

    \b
    Example:
      caviar panda digits --set learning_rate=0.05
    """
    from ..commands.panda import begin_trial, start_worker, take_over
    from ..storage.opening import study_name
    from .panda_view import PandaApp

    if trial is not None and settings:
        raise click.UsageError("--set begins a new trial, so it does not go with --trial. Use the key s, or control.")
    home, name = session.home(), study_name(study)
    number = begin_trial(home, name, settings=settings) if trial is None else trial
    if trial is None or take_over(home, name, trial):
        start_worker(home, name, number)
    PandaApp(home, name, number).run()
    after = {"study": name, "trial": number}
    session.print(after, lambda: f"To see trial {number} again: caviar panda {name} --trial {number}")


@click.command()
@click.argument("study")
@click.argument("trial", type=click.IntRange(min=0))
@with_session
def replay(study: str, trial: int, *, session: Session) -> None:
    """Train a trial again, with every change made by hand, and compare.

    The exit code is 1 if its curve differs from the one that was recorded.

    \b
    Example:
      caviar replay digits 7
    """
    from ..commands.replay import replay_lines, replay_trial

    result = replay_trial(session.home(), study, trial)
    session.print(dataclasses.asdict(result), lambda: "\n".join(replay_lines(result)))
    if not result.agrees:
        sys.exit(1)
