import warnings

import numpy as np
import optuna
import pytest
from optuna.exceptions import ExperimentalWarning

from caviar.insight.importance import (
    Importance,
    ParameterImportance,
    above_chance,
    judge_pairs,
    measure_importance,
    ped_anova,
    tier_sentences,
)
from caviar.insight.rows import drawn_parameters
from caviar.spec import StudySpec

from .synthetic import learning_rate_alone, make_spec, make_study


def measured(spec: StudySpec, study: optuna.Study, *, n_resamples: int = 30) -> Importance:
    trials = study.get_trials(deepcopy=False)
    return measure_importance(
        trials, drawn_parameters(spec.space), metric=spec.objective.metric, seed=0, n_resamples=n_resamples
    )


@pytest.mark.slow  # the first to import scikit-learn
def test_what_decides_alone_has_the_largest_share_and_stands_above_chance() -> None:
    spec = make_spec()
    importance = measured(spec, make_study(spec, n_complete=100, n_pruned=50), n_resamples=80)
    first = importance.parameters[0]
    assert (first.name, first.tier, first.above_chance) == ("learning_rate", 1, True)
    assert first.share > 0.5
    assert sum(parameter.share for parameter in importance.parameters) == pytest.approx(1.0)
    assert all(0 <= parameter.low <= parameter.high <= 1 for parameter in importance.parameters)
    assert (importance.n_trials, importance.n_pruned) == (150, 50)
    assert "momentum" in {parameter.name for parameter in importance.parameters}
    agreeing = {(c.first, c.second) for c in judge_pairs(importance) if c.verdict == "agrees"}
    assert ("learning_rate", "depth") in agreeing
    assert any(
        "As the course says, learning_rate matters more" in s for s in tier_sentences(importance, sampler="random")
    )


def test_one_noise_study_in_twenty_has_a_parameter_above_chance_and_not_one_in_three() -> None:
    rng = np.random.default_rng(0)
    n_parameters, n_studies = 8, 2000
    n_shuffles = 20 * n_parameters - 1
    flagged = 0
    for _ in range(n_studies):
        scale = rng.uniform(0.1, 10, n_parameters)  # each parameter's measure has its own
        drawn = rng.exponential(scale, (1 + n_shuffles, n_parameters))
        flagged += bool(above_chance(drawn[0], drawn[1:]).any())
    assert 0.03 < flagged / n_studies < 0.06


def test_holm_goes_on_to_the_next_parameter_where_the_first_stands_out() -> None:
    shuffled = np.tile(np.arange(99.0)[:, None], (1, 3))  # p of an observed x is (99 - x + 1) / 100
    assert above_chance(np.array([99.0, 97.5, 90.0]), shuffled).tolist() == [True, True, False]
    assert above_chance(np.array([97.5, 97.5, 90.0]), shuffled).tolist() == [False, False, False]


def test_the_same_seed_measures_the_same() -> None:
    spec = make_spec()
    study = make_study(spec)
    assert measured(spec, study, n_resamples=5) == measured(spec, study, n_resamples=5)


def test_importance_is_the_same_whichever_way_the_metric_goes() -> None:
    spec, loss = make_spec(), make_spec(objective={"epochs": 10, "metric": "val_loss"})
    up = measured(spec, make_study(spec), n_resamples=3)
    down = measured(loss, make_study(loss, n_pruned=20, score=lambda h: 1 - learning_rate_alone(h)), n_resamples=3)
    assert up.parameters[0].name == down.parameters[0].name == "learning_rate"


@pytest.mark.parametrize(
    ("n_complete", "n_pruned", "reason"),
    [(0, 0, "0 finished trials"), (5, 4, "9 finished trials are too few")],
)
def test_too_few_trials_get_an_answer_and_no_number(n_complete: int, n_pruned: int, reason: str) -> None:
    spec = make_spec()
    importance = measured(spec, make_study(spec, n_complete=n_complete, n_pruned=n_pruned))
    assert importance.parameters == ()
    assert importance.reason is not None
    assert importance.reason.startswith(reason)
    assert judge_pairs(importance) == []
    assert tier_sentences(importance, sampler="tpe") == [importance.reason]


def test_equal_trials_and_a_single_parameter_get_an_answer_and_no_number() -> None:
    spec = make_spec()
    equal = measured(spec, make_study(spec, n_pruned=0, score=lambda _: 0.5))
    assert equal.reason is not None
    assert "the same value" in equal.reason
    one = make_spec(space={"learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"}})
    single = measured(one, make_study(one))
    assert single.reason is not None
    assert "Only one hyperparameter" in single.reason


def test_all_pruned_trials_are_measured_by_what_they_reached() -> None:
    spec = make_spec()
    importance = measured(spec, make_study(spec, n_complete=0, n_pruned=80), n_resamples=5)
    assert (importance.n_trials, importance.n_pruned) == (80, 80)
    assert importance.parameters[0].name == "learning_rate"


def test_a_parameter_that_only_some_trials_draw_is_measured_too() -> None:
    spec = make_spec(space={"units": {"low": 8, "high": 64}, "depth": {"low": 1, "high": 3}, "units_per_layer": True})
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        return float(np.sum(spec.space.suggest(trial)["units"])) / 200

    study.optimize(objective, n_trials=40)
    names = {parameter.name for parameter in measured(spec, study, n_resamples=3).parameters}
    assert names == {"depth", "units_1", "units_2", "units_3"}


def test_optuna_leaves_out_trials_whose_target_is_infinite_so_one_study_serves_every_resample() -> None:
    spec = make_spec()
    trials = make_study(spec, n_complete=60, n_pruned=0).get_trials()
    names = list(spec.space.distributions())
    losses = -np.asarray([trial.value for trial in trials])
    counts = np.bincount(np.random.default_rng(0).integers(60, size=60), minlength=60)
    fresh = optuna.create_study(direction="minimize")
    for trial, loss, count in zip(trials, losses.tolist(), counts.tolist(), strict=True):
        drawn = optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=loss)
        fresh.add_trials([drawn] * count)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        expected = optuna.importance.get_param_importances(fresh, evaluator=evaluator, params=names, normalize=False)
    measure = ped_anova(trials, names, best_fraction=0.1, copies=counts + 1)
    assert measure(losses, counts) == pytest.approx([expected[name] for name in names])


def importance_of(shares: dict[str, tuple[int, float, bool]], samples: list[list[float]]) -> Importance:
    return Importance(
        parameters=tuple(
            ParameterImportance(name=name, tier=tier, share=share, low=share, high=share, above_chance=above)
            for name, (tier, share, above) in shares.items()
        ),
        n_trials=100,
        best_fraction=0.1,
        samples=np.asarray(samples),
    )


def test_the_data_says_otherwise_only_where_the_resamples_agree_and_it_is_above_chance() -> None:
    shares = {"depth": (3, 0.7, True), "momentum": (2, 0.2, True), "learning_rate": (1, 0.1, False)}
    sure = importance_of(shares, [[0.7, 0.2, 0.1]] * 100)
    verdicts = {(c.first, c.second): c.verdict for c in judge_pairs(sure)}
    assert verdicts == {
        ("learning_rate", "depth"): "differs",
        ("learning_rate", "momentum"): "differs",
        ("momentum", "depth"): "differs",
    }
    text = " ".join(tier_sentences(sure, sampler="random"))
    assert "Unlike the course, this data set says that depth matters more than learning_rate and momentum" in text
    torn = importance_of(shares, [[0.7, 0.2, 0.1]] * 50 + [[0.1, 0.2, 0.7]] * 50)
    assert {c.verdict for c in judge_pairs(torn)} == {"open"}
    assert "For 3 of the 3 pairs" in " ".join(tier_sentences(torn, sampler="random"))
    chance = importance_of(
        {name: (tier, share, False) for name, (tier, share, _) in shares.items()}, [[0.7, 0.2, 0.1]] * 100
    )
    assert {c.verdict for c in judge_pairs(chance)} == {"open"}


def test_an_unranked_parameter_and_a_learning_sampler_are_said_to_be_so() -> None:
    importance = importance_of({"batch_norm": (4, 0.6, True), "depth": (3, 0.4, True)}, [[0.6, 0.4]] * 20)
    text = " ".join(tier_sentences(importance, sampler="tpe"))
    assert "The course does not rank it. " in text
    assert (
        "batch_norm has the largest share of the measured importance, 60% (60% to 60% in 90% of the resamples)" in text
    )
    assert "The sampler tpe soon draws mostly good values" in text
