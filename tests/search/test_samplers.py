import dataclasses
from typing import Any

import optuna
import pytest

from caviar.attributes import RETRY_HISTORY
from caviar.errors import SpecError
from caviar.sampler_table import SAMPLERS
from caviar.search.pruners import make_pruner, promotion_rule
from caviar.search.samplers import make_sampler_factory, try_sampler
from caviar.spec import PRUNERS, SearchSpec, parse_spec

SPACE = parse_spec({"name": "toy", "data": {"dataset": "digits"}}).space
GRID = {"batch_size": {"choices": [32, 64]}, "units": {"choices": [8, 16]}}
NAMES = [name for name in SAMPLERS if name != "gp"]


def sample(study: optuna.Study, search: SearchSpec, n_trials: int) -> None:
    """Draw trials as a worker does, with a value that depends on what was drawn."""
    make = make_sampler_factory(search, SPACE, seed=3)
    for _ in range(n_trials):
        number = len(study.get_trials(deepcopy=False))
        study.sampler = make(number, study)
        trial = study.ask()
        hyperparameters = SPACE.suggest(trial)
        study.tell(trial, hyperparameters["learning_rate"] + hyperparameters["momentum"])


def drawn(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_study_draws_what_a_straight_one_would_have(name: str) -> None:
    search = SearchSpec(sampler=name, trials=30)
    straight = optuna.create_study()
    sample(straight, search, 30)
    resumed = optuna.create_study()
    sample(resumed, search, 15)
    sample(resumed, search, 15)
    assert drawn(resumed) == drawn(straight)
    assert len({tuple(params.items()) for params in drawn(straight)}) == 30


@pytest.mark.parametrize("name", ["random", "qmc", "grid"])
def test_trials_drawn_in_any_order_are_the_same_trials(name: str) -> None:
    make = make_sampler_factory(SearchSpec(sampler=name, trials=30), SPACE, seed=3)
    forward = optuna.create_study()
    sample(forward, SearchSpec(sampler=name, trials=30), 8)
    study = optuna.create_study()
    study.sampler = make(7, study)
    assert {**SPACE.hyperparameters(drawn(forward)[7])} == SPACE.suggest(study.ask())


@pytest.mark.parametrize(
    ("path", "options", "instead"),
    [
        ("optuna.samplers:GridSampler", {"search_space": {"depth": [1, 2]}}, "grid"),
        ("optuna.samplers:BruteForceSampler", {}, "grid"),
        ("optuna.samplers:QMCSampler", {}, "qmc"),
    ],
)
def test_a_sampler_that_keeps_its_place_in_one_process_is_refused(path: str, options: Any, instead: str) -> None:
    with pytest.raises(SpecError, match=f"Use sampler = '{instead}'"):
        make_sampler_factory(SearchSpec(sampler=path, sampler_options=options), SPACE, seed=0)


@pytest.mark.parametrize("size", [10**12, 10**400])
def test_a_sampler_is_given_no_more_than_it_can_hold(size: int) -> None:
    with pytest.raises(SpecError, match=r"sampler_options.n_ei_candidates must be at most 1000000"):
        make_sampler_factory(SearchSpec(sampler_options={"n_ei_candidates": size}, sampler="tpe"), SPACE, seed=0)
    with pytest.raises(SpecError, match="must be a whole number from 1 to 100"):
        make_sampler_factory(SearchSpec(sampler_options={"stages": size}), SPACE, seed=0)


def test_a_grid_visits_every_point_although_a_trial_was_tried_again() -> None:
    space = parse_spec({"name": "toy", "data": {"dataset": "digits"}, "space": GRID}).space
    make = make_sampler_factory(SearchSpec(sampler="grid", trials=4), space, seed=0)
    study = optuna.create_study()
    for number, origin in enumerate([0, 1, 1, 3, 4]):  # the second trial failed, and its retry is the third
        study.enqueue_trial({})
        trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        if origin != number:
            study._storage.set_trial_system_attr(trial_id, RETRY_HISTORY, [origin])
        study.sampler = make(origin, study)
        space.suggest(study.ask())
    points = [tuple(params.values()) for params in drawn(study)]
    assert points[1] == points[2]
    assert len(set(points)) == 4


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_draws_other_trials(name: str) -> None:
    first = make_sampler_factory(SearchSpec(sampler=name, trials=30), SPACE, seed=0)
    second = make_sampler_factory(SearchSpec(sampler=name, trials=30), SPACE, seed=1)
    studies = [optuna.create_study(), optuna.create_study()]
    for study, make in zip(studies, (first, second), strict=True):
        study.sampler = make(0, study)
    assert SPACE.suggest(studies[0].ask()) != SPACE.suggest(studies[1].ask())


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (SearchSpec(sampler="grid", trials=10**6), r"The grid has \d+ points .* fewer than the 1000000"),
        (SearchSpec(sampler="grid", sampler_options={"points": 0}), "whole number of at least 1, but got 0"),
        (SearchSpec(sampler="grid", sampler_options={"point": 3}), r"no option 'point'. Did you mean 'points'\?"),
        (SearchSpec(sampler="qmc", sampler_options={"qmc_type": "sobl"}), r"Did you mean 'sobol'\?"),
        (SearchSpec(sampler="tpe", sampler_options={"n_startup": 3}), r"Did you mean 'n_startup_trials'\?"),
        (SearchSpec(sampler="tpe", sampler_options={"seed": 3}), r"takes no option 'seed'"),
        (SearchSpec(sampler="optuna.samplers:NSGAIISampler", sampler_options={"population_size": 1}), "refuses its"),
        (SearchSpec(sampler="no.such.module:Sampler"), "there is no module 'no'"),
        (SearchSpec(sampler="optuna.samplers:TPSampler"), r"no such function. Did you mean 'TPESampler'\?"),
        (SearchSpec(sampler="tests.toy_data:blobs"), "makes a tuple, but .* must make an optuna.samplers.BaseSampler"),
        (SearchSpec(sampler="tests.toy_data:leaving"), "cannot be made: it raised SystemExit: 0 .toy_data.py, line"),
    ],
)
def test_wrong_sampler_options_are_refused(search: SearchSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_sampler_factory(search, SPACE, seed=0)


def test_options_that_only_drawing_shows_to_be_wrong_are_refused() -> None:
    search = SearchSpec(sampler="tpe", sampler_options={"n_startup_trials": "ten"})
    with pytest.raises(SpecError, match=r"search\.sampler 'tpe': drawing a trial with it raised TypeError"):
        try_sampler(search, SPACE, make_sampler_factory(search, SPACE, seed=0))


def test_gp_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"pip install 'optuna-caviar\[gp\]'"):
        make_sampler_factory(SearchSpec(sampler="gp"), SPACE, seed=0)


def test_a_sampler_of_the_users_own_is_found_by_its_path() -> None:
    search = SearchSpec(sampler="optuna.samplers:NSGAIISampler", sampler_options={"population_size": 4})
    assert isinstance(
        make_sampler_factory(search, SPACE, seed=0)(0, optuna.create_study()), optuna.samplers.NSGAIISampler
    )


def test_cmaes_needs_two_ranges() -> None:
    space = dataclasses.replace(SPACE, parameters=SPACE.parameters[:1])
    with pytest.raises(SpecError, match="at least 2 parameters with a range, but the space has 1"):
        make_sampler_factory(SearchSpec(sampler="cmaes"), space, seed=0)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_is_made_by_its_name(name: str) -> None:
    options: dict[str, Any] = {"lower": 0.1} if name == "threshold" else {}
    pruner = make_pruner(SearchSpec(pruner=name, pruner_options=options), epochs=20)
    expected = {"none": "NopPruner", "promotion": "NopPruner", "successive_halving": "SuccessiveHalvingPruner"}
    assert type(pruner).__name__ == expected.get(name, f"{name.capitalize()}Pruner")


def test_promotion_judges_by_its_own_rule_and_other_pruners_have_none() -> None:
    rule = promotion_rule(SearchSpec(pruner="promotion"), epochs=20)
    assert (rule.rungs, rule.reduction) == ((2, 6, 18), 3)
    options = {"reduction": 4, "min_epochs": 1}
    assert promotion_rule(SearchSpec(pruner="promotion", pruner_options=options), epochs=20).rungs == (1, 4, 16)
    assert promotion_rule(SearchSpec(pruner="median"), epochs=20).rungs == ()


def test_a_patient_pruner_wraps_another() -> None:
    options = {"wrapped": "median", "wrapped_options": {"n_startup_trials": 2}, "patience": 4}
    pruner = make_pruner(SearchSpec(pruner="patient", pruner_options=options), epochs=20)
    assert isinstance(pruner, optuna.pruners.PatientPruner)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (SearchSpec(pruner="median", pruner_options={"n_warmup": 3}), r"Did you mean 'n_warmup_steps'\?"),
        (SearchSpec(pruner="percentile", pruner_options={"percentile": 200.0}), "refuses its options"),
        (SearchSpec(pruner="threshold"), "refuses its options"),
        (SearchSpec(pruner="promotion", pruner_options={"reductions": 3}), r"Did you mean 'reduction'\?"),
        (SearchSpec(pruner="promotion", pruner_options={"reduction": 1}), "reduction must be at least 2"),
        (SearchSpec(pruner="promotion", pruner_options={"min_epochs": 2.0}), "must be a whole number, but got 2.0"),
        (SearchSpec(pruner="promotion", pruner_options={"min_epochs": 21}), "at most the 20 epochs"),
        (SearchSpec(pruner="patient", pruner_options={"wrapped": "medain"}), "No pruner is called 'medain'"),
        (SearchSpec(pruner="patient", pruner_options={"wrapped": 3}), "wrapped is a name .* but got 3"),
        (SearchSpec(pruner="optuna.pruners:NoPruner"), "no such function. Did you mean 'NopPruner'"),
        (SearchSpec(pruner="tests.toy_data:blobs"), "makes a tuple, but .* must make an optuna.pruners.BasePruner"),
    ],
)
def test_wrong_pruner_options_are_refused(search: SearchSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_pruner(search, epochs=20)
