"""A study of any number of finished trials, as caviar writes them, without training."""

import datetime
import math
import random
import uuid
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from caviar.attributes import BEST_EPOCH, BEST_VALUE, CURVES, DIVERGED, OWNER, STUDY_UID, TRAIN_SECONDS
from caviar.optuna_private import id_of_study, optuna_tables
from caviar.spec import StudySpec, read_spec
from caviar.storage import schema
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import Home
from caviar.storage.pending_writes import PendingWrites, TrialEnd, write_pending
from caviar.storage.studies import create_study

DIGITS = Path(__file__).parents[1] / "studies" / "digits.toml"
_BATCH = 500


def make_finished_study(home: Home, *, trials: int) -> StudySpec:
    """Create the digits study in a new home, with trials that have ended: a third COMPLETE, the others PRUNED.

    Each has the parameters of the study's space, reports and four curves of 4 to 20 epochs, with all their digits.
    """
    spec = read_spec(DIGITS)
    home.path.mkdir(parents=True, exist_ok=True)
    storage = open_storage(home.storage, owner=new_owner(), create=True)
    study = create_study(storage, spec, attributes={STUDY_UID: uuid.uuid4().hex})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    drawing = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    luck, began = random.Random(0), datetime.datetime(2026, 11, 1)  # noqa: DTZ001  (the database holds naive UTC)
    for start in range(0, trials, _BATCH):
        numbers = range(start, min(start + _BATCH, trials))
        times = {number: began + datetime.timedelta(seconds=number) for number in numbers}
        table = optuna_tables().trials
        with schema.transaction(storage.engine) as connection:
            new = {"study_id": id_of_study(study), "state": TrialState.RUNNING}
            connection.execute(
                table.insert(), [{**new, "number": number, "datetime_start": at} for number, at in times.items()]
            )
            rows = connection.execute(table.select().where(table.c.number >= start).order_by(table.c.number)).all()
            writes = {row.trial_id: _finished(spec, drawing, luck, times[row.number]) for row in rows}
            write_pending(connection, writes)
    storage.engine.dispose()
    return spec


def _finished(spec: StudySpec, drawing: optuna.Study, luck: random.Random, began: datetime.datetime) -> PendingWrites:
    trial = drawing.ask()
    spec.space.suggest(trial)
    complete = luck.random() < 1 / 3
    n_epochs = spec.objective.epochs if complete else luck.randrange(4, 12)
    curves = _curves(luck, n_epochs)
    values = curves["val_accuracy"]
    best = max(values)
    attributes: dict[str, Any] = {CURVES: curves, BEST_VALUE: best, BEST_EPOCH: values.index(best)}
    attributes |= {TRAIN_SECONDS: round(luck.uniform(0.1, 3.0), 3), **({DIVERGED: True} if best < 0.2 else {})}
    return PendingWrites(
        params={
            name: (trial.distributions[name].to_internal_repr(value), trial.distributions[name])
            for name, value in trial.params.items()
        },
        reports=dict(enumerate(values)),
        user_attributes=attributes,
        system_attributes={OWNER: "worker:1234:0a1b2c3d"},
        end=TrialEnd(
            state=TrialState.COMPLETE if complete else TrialState.PRUNED,
            at=began + datetime.timedelta(seconds=attributes[TRAIN_SECONDS]),
            values=[best if complete else values[-1]],
        ),
    )


def _curves(luck: random.Random, n_epochs: int) -> dict[str, list[float]]:
    height, speed = luck.uniform(0.1, 0.99), luck.uniform(0.1, 1.0)
    accuracy = [height * (1 - math.exp(-speed * (epoch + 1))) for epoch in range(n_epochs)]
    noisy = [max(0.0, value - luck.uniform(0, 0.03)) for value in accuracy]
    return {
        "accuracy": accuracy,
        "loss": [2.3 * (1 - value) for value in accuracy],
        "val_accuracy": noisy,
        "val_loss": [2.3 * (1 - value) for value in noisy],
    }
