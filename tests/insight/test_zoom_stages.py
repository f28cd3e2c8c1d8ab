"""The stages of the sampler `zoom` in the report, beside zooms that are studies of their own."""

import math

from caviar.insight.family import Member, with_zoom_stages, zoom_stages
from caviar.insight.report import build_report

from .synthetic import NOW, make_spec, make_study

ZOOM = {"trials": 60, "sampler": "zoom", "pruner": "promotion"}


def narrowness(member: Member) -> float:
    rate = next(parameter for parameter in member.parameters if parameter.name == "learning_rate")
    return math.log10(rate.high / rate.low)  # type: ignore[union-attr]


def test_a_study_searched_by_zoom_shows_its_stages_as_nested_ranges() -> None:
    spec = make_spec(search=ZOOM)
    study = make_study(spec)
    members = zoom_stages(study, spec)
    assert [member.name for member in members] == ["toy, stage 1", "toy, stage 2", "toy, stage 3"]
    assert [member.generation for member in members] == [0, 1, 2]
    assert [member.n_trials for member in members] == [30, 15, 15]
    assert [member.is_current for member in members] == [False, False, True]
    assert narrowness(members[0]) == 4
    assert narrowness(members[0]) > narrowness(members[1]) >= narrowness(members[2])
    report = build_report(study, spec, cores=2, now=NOW, n_resamples=2)
    assert [zoom["name"] for zoom in report.zooms] == [member.name for member in members]
    assert "zooms" in report.figures


def test_another_sampler_and_a_search_in_its_first_stage_have_none() -> None:
    assert zoom_stages(make_study(make_spec()), make_spec()) == ()
    spec = make_spec(search=ZOOM)
    assert zoom_stages(make_study(spec, n_complete=10, n_pruned=5), spec) == ()
    assert zoom_stages(make_study(spec, n_complete=0, n_pruned=0), spec) == ()


def test_in_a_family_they_follow_the_study_that_they_are_of() -> None:
    spec = make_spec(search=ZOOM)
    study = make_study(spec)
    parent, current, child = (
        Member(name=name, generation=g, is_current=name == "toy", n_trials=1, best_value=None, parameters=())
        for g, name in enumerate(("wide", "toy", "narrow"))
    )
    members = with_zoom_stages((parent, current, child), study, spec)
    assert [(member.name, member.generation) for member in members] == [
        *(("wide", 0), ("toy", 1)),
        *(("toy, stage 1", 2), ("toy, stage 2", 3), ("toy, stage 3", 4)),
        ("narrow", 2),
    ]
