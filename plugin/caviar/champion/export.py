"""Writing a champion's directory: the network, what prepares its inputs, its description, and a model card."""

import dataclasses
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.loading import Data
from ..errors import StorageError
from ..record.environment import environment_versions
from ..spec import StudySpec, spec_table
from .championship import RaceResult
from .ensemble import Ensemble
from .race import Interval
from .refit import Refit
from .saved import DESCRIPTION, FORMAT, NETWORK, PREPROCESSING
from .testing import TestFigures

CARD = "README.md"
_CARD = """\
# {{ name }}

A network for {{ classes | length }} classes ({{ classes[:10] | join(", ") }}{{ " …" if classes | length > 10 }}),
trained on {{ data.n_train }} examples of `{{ data.dataset }}` by optuna-caviar.

## On the test split

Accuracy {{ "%.4f" % share.mean }}, 95 % interval {{ "%.4f" % share.low }} to {{ "%.4f" % share.high }}
({{ test.n }} examples, read once, by this network alone). Cross-entropy {{ "%.4f" % test.log_loss }} nats,
balanced accuracy {{ "%.4f" % test.balanced_accuracy }}, macro F1 {{ "%.4f" % test.macro_f1 }},
expected calibration error {{ "%.4f" % test.calibration_error }}.

| method | test accuracy |
|---|---|
| this network | {{ "%.4f" % share.mean }} |
{% for method, accuracy in test.baselines.items() %}
| {{ method }} | {{ "%.4f" % accuracy }} |
{% endfor %}

{% for line in better %}
**{{ line }}**
{% endfor %}
The baselines were fitted on {{ test.baseline_rows }} examples.

| class | precision | recall | F1 | examples |
|---|---|---|---|---|
{% for row in test.classes %}
| {{ row.name }} | {{ "%.3f" % row.precision }} | {{ "%.3f" % row.recall }} | {{ "%.3f" % row.f1 }} | {{ row.n }} |
{% endfor %}

## How it was chosen

{{ race.candidates | length }} of the search's best trials raced over {{ race.n_trainings }} trainings, on several
seeds and cuts of the data. Trial {{ race.winner }} won. On seeds and cuts that chose nothing it reaches a
{{ race.metric }} of {{ "%.4f" % confirmed.mean }}, 95 % interval {{ "%.4f" % confirmed.low }} to
{{ "%.4f" % confirmed.high }}; the search's own value was {{ "%+.4f" % race.optimism }} off. Then it was trained on
training and validation data together for {{ epochs }} epochs.
{% for line in averaging %}

{{ line }}.
{% endfor %}

## Configuration

{% for key, value in configuration.items() %}
- {{ key }}: {{ value }}
{% endfor %}
- epochs: {{ epochs }}
- seed: {{ seed }}

## Making it again

`champion.json` holds the study file. The data's fingerprint is `{{ data.fingerprint[:16] }}…`. Run `caviar run` and
`caviar champion` with these versions:

{% for key, value in versions.items() %}
- {{ key }} {{ value }}
{% endfor %}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """All that is said of a champion."""

    name: str
    spec: StudySpec
    data: Data
    race: RaceResult
    ensemble: Ensemble | None
    trained: Refit
    test: TestFigures

    def table(self) -> dict[str, Any]:
        """Return it as plain data, what ``champion.json`` holds."""
        race, winner = self.race, self.race.candidates[self.race.winner]
        features = self.trained.train.features
        is_folder = self.spec.data.image_size is not None
        return {
            "format": FORMAT,
            "name": self.name,
            "classes": list(self.data.class_names),
            "label_type": self.data.label_type,
            "input": {
                "kind": "table" if self.data.kinds is not None else "images" if is_folder else "array",
                "shape": list(features.shape[1:]),
                "dtype": features.dtype.name,
                "columns": None if self.data.kinds is None else dict(self.data.kinds),
                "image_size": self.spec.data.image_size,
                "image_color": self.spec.data.image_color if is_folder else None,
            },
            "data": {
                "dataset": self.spec.data.dataset,
                "fingerprint": self.data.fingerprint,
                "n_train": len(self.trained.train.labels),
                "n_test": self.test.n,
            },
            "configuration": _plain(self.trained.hyperparameters),
            "epochs": race.epochs,
            "seed": self.trained.seed,
            "race": {
                "metric": self.spec.objective.metric,
                "candidates": [dataclasses.asdict(candidate) for candidate in race.candidates],
                "values": [list(values) for values in race.values],
                "winner": winner.number,
                "confirmed": list(race.confirmed),
                "optimism": race.optimism,
                "n_trainings": race.n_trainings,
            },
            "ensemble": None if self.ensemble is None else dataclasses.asdict(self.ensemble),
            "test": dataclasses.asdict(self.test),
            "versions": environment_versions(),
            "study_file": spec_table(self.spec),
        }


def write_champion(directory: Path, description: Description) -> None:
    """Write a champion's directory, whole or not at all, in place of an earlier one.

    Raises:
        StorageError: If it cannot be written.
    """
    from ..networks import quiet_saving

    beside = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    table = description.table()
    try:
        beside.mkdir(parents=True)
        with quiet_saving():
            description.trained.model.save(beside / NETWORK)
        if description.trained.preprocessing is not None:
            description.trained.preprocessing.save(beside / PREPROCESSING)
        (beside / CARD).write_text(model_card(table), encoding="utf-8")
        (beside / DESCRIPTION).write_text(json.dumps(table, indent=2), encoding="utf-8")
        if directory.exists():
            old = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.old")
            directory.rename(old)
            beside.rename(directory)
            shutil.rmtree(old, ignore_errors=True)
        else:
            beside.rename(directory)
    except OSError as error:
        raise StorageError(f"The champion {directory} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def model_card(table: Mapping[str, Any]) -> str:
    """Return the model card: what it is, how it was chosen, what it does, and how to make it again."""
    import jinja2

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701
    share, confirmed = Interval(*table["test"]["accuracy"]), Interval(*table["race"]["confirmed"])
    better = better_lines(table["test"]["baselines"], share.mean)
    averaging = ensemble_lines(table["ensemble"], table["race"]["metric"])
    return environment.from_string(_CARD).render(
        **table, share=share, confirmed=confirmed, better=better, averaging=averaging
    )


def ensemble_lines(ensemble: Mapping[str, Any] | None, metric: str) -> list[str]:
    """Return a line that says whether an ensemble was better, where one was tried."""
    if ensemble is None:
        return []
    alone, together = np.mean(ensemble["alone"]), np.mean(ensemble["together"])
    n, n_cuts, p_value = ensemble["n_networks"], len(ensemble["alone"]), ensemble["p_value"]
    verdict = f"the champion averages {n}" if ensemble["is_kept"] else "not clearly better, so the champion is one"
    compared = (
        f"{n} networks averaged have {metric} {together:.4f} on {n_cuts} further cuts of the data, one {alone:.4f}"
    )
    return [f"{compared} (p = {p_value:.2g}): {verdict}"]


def better_lines(baselines: Mapping[str, float], share: float) -> list[str]:
    """Return a line that says which baseline is better than the network, where one is."""
    name = max(baselines, key=lambda name: baselines[name])
    if baselines[name] <= share:
        return []
    return [f"A baseline is better: {name}, {baselines[name]:.4f}. Prefer it to this network."]


def _plain(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.item() if isinstance(value, np.generic) else list(value) if isinstance(value, tuple) else value
        for name, value in hyperparameters.items()
    }
