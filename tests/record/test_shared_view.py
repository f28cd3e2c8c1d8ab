import json

import pytest

from caviar.record.shared_view import SharedView, dump_view, load_view, log_parameters, trial_view

from .conftest import build_trial

CURVES = ("accuracy", "val_loss", "f1", "val_accuracy")


def test_log_scales_are_shown_by_exponent() -> None:
    assert log_parameters(build_trial()) == {"learning_rate_log10": "-2.0000", "one_minus_momentum_log10": "-1.0000"}


def test_view_shows_names_as_the_user_thinks_and_axes_by_exponent() -> None:
    view = trial_view(build_trial(), ["learning_rate", "momentum", "depth", "batch_norm", "dropout"], CURVES)
    assert view.columns == ("learning_rate", "momentum", "depth", "batch_norm")  # dropout was fixed
    assert view.axes == ("learning_rate_log10", "one_minus_momentum_log10", "depth", "batch_norm")
    assert view.curves == ("val_accuracy", "val_loss", "accuracy", "f1")


def test_joined_views_keep_the_axes_that_every_run_has() -> None:
    shallow = SharedView(columns=("depth", "units_1"), axes=("depth", "units_1"), curves=("loss",))
    deep = SharedView(columns=("depth", "units_1", "units_2"), axes=("depth", "units_1", "units_2"), curves=("f1",))
    joined = deep.joined(shallow)
    assert joined == SharedView(
        columns=("depth", "units_1", "units_2"), axes=("depth", "units_1"), curves=("loss", "f1")
    )
    assert joined.joined(shallow) == joined


def test_view_survives_its_tag() -> None:
    view = trial_view(build_trial(), ["learning_rate"], CURVES)
    assert load_view(dump_view(view, ascending=False)) == view


@pytest.mark.parametrize("tag", [None, "", "deflate;eJw=", "[]", "{}", '{"caviar": 1}', '{"caviar": {"columns": []}}'])
def test_views_of_others_are_no_views_of_ours(tag: str | None) -> None:
    assert load_view(tag) is None


def test_best_trial_comes_first_whichever_way_the_metric_goes() -> None:
    view = SharedView(columns=(), axes=(), curves=("val_loss",))
    assert json.loads(dump_view(view, ascending=True))["orderByAsc"] is True
    assert json.loads(dump_view(view, ascending=False))["orderByAsc"] is False
    chart = json.loads(dump_view(view, ascending=True))["compareRunCharts"][1]
    assert chart["metricKey"] == "val_loss"
    assert chart["scaleType"] == "log"
