"""What optuna-dashboard shows of trials that were changed by hand."""

import json
import math
from collections.abc import Sequence

import optuna
import plotly.graph_objects
from optuna_dashboard import save_plotly_graph_object
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects  # as its page reads them

from caviar.attributes import CURVES
from caviar.interventions import Intervention, as_attributes
from caviar.record.dashboard import plot_changes


def make_study(*actions: str, curve: Sequence[float] = (0.25, 0.5, 0.75)) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    changes = [
        Intervention(action=action, epoch=2, trained=2, name="dropout", old=0, new=0.5, who="<ann>", at="now")  # type: ignore[arg-type]  # texts
        for action in actions
    ]
    trial = optuna.trial.create_trial(
        value=0.75, user_attrs={CURVES: {"val_accuracy": list(curve)}, **as_attributes(changes)}
    )
    study.add_trial(trial)
    return study


def plots(study: optuna.Study) -> dict[str, str]:
    found: dict[str, str] = get_plotly_graph_objects(study._storage.get_study_system_attrs(study._study_id))
    return found


def test_a_changed_trials_curve_is_marked_where_it_was_changed() -> None:
    study = make_study("set")
    for _ in range(2):
        plot_changes(study, study.trials, metric="val_accuracy")
    curve, marks = json.loads(plots(study)["trial-0-changes"])["data"]
    assert (curve["x"], curve["y"]) == ([1, 2, 3], [0.25, 0.5, 0.75])
    assert (marks["x"], marks["y"]) == ([2], [0.5])
    assert marks["text"] == ["epoch 2: dropout 0 → 0.5 (&lt;ann&gt;)"]


def test_a_long_curve_that_diverged_is_stored_in_parts_and_a_shorter_one_takes_their_place() -> None:
    study = make_study("set", curve=[0.1234567] * 999 + [math.nan])
    plot_changes(study, study.trials, metric="val_accuracy")
    stored = plots(study)["trial-0-changes"]
    assert len(stored) > 2 * 2045
    assert json.loads(stored)["data"][0]["y"][-2:] == [0.1234567, None]
    plot_changes(study, make_study("set").trials, metric="val_accuracy")
    assert json.loads(plots(study)["trial-0-changes"])["data"][0]["y"] == [0.25, 0.5, 0.75]


def test_a_picture_is_stored_as_optuna_dashboard_stores_its_own() -> None:
    ours, theirs = make_study("set"), make_study("set")
    plot_changes(ours, ours.trials, metric="val_accuracy")
    figure = plotly.graph_objects.Figure(json.loads(plots(ours)["trial-0-changes"]))
    save_plotly_graph_object(theirs, figure, graph_object_id="trial-0-changes")
    keys, their_keys = (one._storage.get_study_system_attrs(one._study_id).keys() for one in (ours, theirs))
    assert next(iter(keys)) == next(iter(their_keys))


def test_a_trial_that_was_only_paused_has_no_plot_of_its_own() -> None:
    study = make_study("pause", "resume")
    plot_changes(study, study.trials, metric="val_accuracy")
    assert plots(study) == {}
