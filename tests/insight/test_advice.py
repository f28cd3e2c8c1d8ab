import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from caviar.insight.advice import Advice, next_steps
from caviar.insight.guessing import Guess, guess_of
from caviar.insight.importance import Importance, ParameterImportance
from caviar.insight.rows import TrialRow, drawn_parameters, trial_rows
from caviar.space import parse_space
from caviar.spec import StudySpec

from .synthetic import DATA, learning_rate_alone, make_spec, make_study, make_trial

NOTHING = Importance(n_trials=0, reason="nothing measured")


def rows_of(spec: StudySpec, study: optuna.Study) -> list[TrialRow]:
    return trial_rows(study.get_trials(deepcopy=False), drawn_parameters(spec.space), metric=spec.objective.metric)


def advise(
    spec: StudySpec, rows: list[TrialRow], *, importance: Importance = NOTHING, guess: Guess | None = None
) -> dict[str, Advice]:
    steps = next_steps(spec, rows, drawn_parameters(spec.space), importance, guess=guess)
    return {step.title: step for step in steps}


def higher_rate(hyperparameters: Mapping[str, Any]) -> float:
    return 0.9 + 0.02 * float(np.log10(hyperparameters["learning_rate"]))


def lower_momentum(hyperparameters: Mapping[str, Any]) -> float:
    return 0.95 - 0.1 * float(hyperparameters["momentum"])


def test_the_best_at_an_edge_asks_for_a_wider_range_that_a_study_file_takes() -> None:
    spec = make_spec()
    steps = advise(spec, rows_of(spec, make_study(spec, n_complete=200, score=higher_rate)))
    step = steps["Widen learning_rate at its high end"]
    assert step.change == 'learning_rate = { low = 0.0001, high = 10, scale = "log" }'
    assert "of the 5 best trials lie in the quarter of the range there" in step.evidence
    low = advise(spec, rows_of(spec, make_study(spec, n_complete=200, score=lower_momentum)))[
        "Widen momentum at its low end"
    ]
    assert low.change == 'momentum = { low = 0, high = 0.999, scale = "log-complement" }'
    parse_space({"momentum": {"low": 0, "high": 0.999, "scale": "log-complement"}})


def test_the_best_inside_asks_for_no_wider_range() -> None:
    spec = make_spec()
    assert not [t for t in advise(spec, rows_of(spec, make_study(spec))) if t.startswith("Widen learning_rate")]


def test_curves_that_still_rise_ask_for_more_epochs_and_early_ones_for_fewer() -> None:
    spec = make_spec()
    rows = rows_of(spec, make_study(spec))
    assert advise(spec, rows)["Train for more epochs"].change == "epochs = 20"
    early = [dataclasses.replace(row, best_epoch=2) for row in rows]
    assert advise(spec, early)["Train for fewer epochs, and spend them on more trials"].change == "epochs = 4"


def test_many_diverged_trials_ask_for_a_lower_learning_rate() -> None:
    spec = make_spec()
    study = make_study(spec, n_complete=20, n_pruned=0)
    rows = [
        dataclasses.replace(row, diverged=row.hyperparameters["learning_rate"] > 0.1, state="pruned")
        for row in rows_of(spec, study)
    ]
    step = advise(spec, rows)["Lower the high end of the learning rate"]
    assert "of 20 trials diverged" in step.evidence
    assert step.change is not None
    assert step.change.startswith("learning_rate = { low = 0.0001, high = 0.")
    anywhere = [dataclasses.replace(row, diverged=row.number % 5 == 0) for row in rows]
    assert "Find what makes training diverge" in advise(spec, anywhere)


def test_a_parameter_without_influence_is_to_be_fixed_at_the_best() -> None:
    spec = make_spec()
    quiet = ParameterImportance(name="batch_norm", tier=4, share=0.01, low=0.0, high=0.03, above_chance=False)
    loud = ParameterImportance(name="learning_rate", tier=1, share=0.99, low=0.9, high=1.0, above_chance=True)
    importance = Importance(parameters=(loud, quiet), n_trials=60, best_fraction=0.1, samples=np.zeros((1, 2)))
    rows = rows_of(spec, make_study(spec))
    step = advise(spec, rows, importance=importance)["Fix batch_norm, and search one dimension less"]
    assert step.change in ('batch_norm = "none"', 'batch_norm = "before_activation"')
    assert "which may be chance" in step.evidence


def test_an_unfinished_study_and_failed_trials_come_first() -> None:
    spec = make_spec()
    study = make_study(spec, n_complete=3, n_pruned=0)
    rng = np.random.default_rng(1)
    study.add_trial(
        make_trial(spec, rng, learning_rate_alone, state=TrialState.FAIL, user_attrs={"fail_reason": "ValueError: no"})
    )
    titles = list(steps := advise(spec, rows_of(spec, study)))
    assert titles[:2] == ["Look at the trial that failed", "Let the search finish"]
    assert "3 of the 60 trials are done" in steps[titles[1]].evidence


def test_ties_are_counted_by_the_standard_error_of_the_validation_split() -> None:
    spec = make_spec()
    study = make_study(spec, n_complete=60, n_pruned=0, score=lambda h: 0.98 - 0.001 * h["depth"])
    steps = advise(spec, rows_of(spec, study), guess=guess_of({}, data=DATA))
    step = steps["Race the 10 best over several seeds before you trust the first"]
    assert "200 validation examples" in step.evidence
    assert not [title for title in advise(spec, rows_of(spec, study)) if title.startswith("Race")]


def test_overfitting_asks_for_dropout() -> None:
    spec = make_spec()
    rows = [
        dataclasses.replace(row, curves={**row.curves, "accuracy": (1.0,) * len(row.curve)})
        for row in rows_of(spec, make_study(spec, score=lambda h: learning_rate_alone(h) - 0.1))
    ]
    assert advise(spec, rows)["Search dropout or l2"].change == "dropout = { low = 0.0, high = 0.5 }"


def test_what_cannot_be_told_from_guessing_is_the_only_advice() -> None:
    spec = make_spec()
    study = make_study(spec, score=lambda h: 0.2 + 0.01 * h["depth"])
    guess = Guess(n_examples=300, accuracy=0.2, loss=float(np.log(5)))
    (step,) = advise(spec, rows_of(spec, study), guess=guess).values()
    assert "the best may be a guess" in step.title
    assert "The best val_accuracy is 0.24, over 460 epochs of all trials" in step.evidence
    assert "always naming the most frequent class gives 0.2." in step.evidence
    assert "Note that" not in step.evidence
    (early,) = advise(make_spec(search={"trials": 100}), rows_of(spec, study), guess=guess).values()
    assert "Note that 60 of 100 trials are done." in early.evidence


def test_with_class_weights_a_guess_with_better_accuracy_raises_no_doubt() -> None:
    spec = make_spec()
    rows = rows_of(spec, make_study(spec, score=lambda h: 0.2 + 0.01 * h["depth"]))
    weighted = dataclasses.replace(spec, objective=dataclasses.replace(spec.objective, class_weight="balanced"))
    guess = Guess(n_examples=300, accuracy=0.2, loss=float(np.log(5)))
    assert not [title for title in advise(weighted, rows, guess=guess) if "may be a guess" in title]


def test_a_study_without_trials_is_asked_to_finish_and_nothing_else() -> None:
    spec = make_spec()
    assert list(advise(spec, [])) == ["Let the search finish"]


def test_what_was_copied_from_a_parent_is_no_part_of_the_budget_that_was_run() -> None:
    spec = make_spec()
    rows = rows_of(spec, make_study(spec))
    best = max((row for row in rows if row.state == "complete"), key=lambda row: row.value or 0.0)
    late = [dataclasses.replace(best, number=99, value=1.0), *(row for row in rows if row.number != best.number)]
    assert "Run more trials" in advise(spec, late)
    copied = [dataclasses.replace(row, inherited=row.number < 55) for row in late]
    assert "Run more trials" not in advise(spec, copied)  # five of its own are too few to say
    few = [dataclasses.replace(row, inherited=row.number < 40, value=row.value and row.value / 2) for row in rows]
    few[0] = dataclasses.replace(few[0], value=1.0)
    step = advise(spec, few)["Zoom in: search a narrower space around the best trials"]
    assert "copied from the parent: none of the 20 that were run here" in step.evidence
