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
