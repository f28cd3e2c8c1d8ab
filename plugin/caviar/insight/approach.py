"""Panda or Caviar: whether a search fits the machine, from the time of one trial, the budget and the cores."""

#: A search shorter than this runs unattended while one does something else: a working day.
_CAVIAR_LIMIT_H = 8.0


def panda_or_caviar(trial_s: float, trials: int, *, cores: int) -> tuple[str, str]:
    """Say whether one should train many networks side by side or watch over a single one.

    Args:
        trial_s: Seconds that one unpruned trial takes on this machine, which may use every core; above 0.
        trials: The budget.
        cores: Of the machine, to be named in the reason.

    Returns:
        ``caviar`` or ``panda``, and the reason.

    Source:
        The course's "Hyperparameters tuning in practice: Pandas vs. Caviar": it is a matter of computing power.
    """
    hours = trial_s * trials / 3600
    took = f"One trial takes about {trial_s:.1f} s here on {cores} cores, so {trials} trials take {_duration(hours)}"
    if hours <= _CAVIAR_LIMIT_H:
        return "caviar", f"{took}: train many in parallel and keep the best."
    fits = int(_CAVIAR_LIMIT_H * 3600 / trial_s)
    if fits >= 10:
        return (
            "caviar",
            f"{took}: train many, but only about {fits} fit into {_CAVIAR_LIMIT_H:.0f} h; lower the budget.",
        )
    return "panda", f"{took}, and only {fits} fit into {_CAVIAR_LIMIT_H:.0f} h: babysit one model."


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
