import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from caviar.errors import SpecError
from caviar.spec import (
    CHANGEABLE,
    SearchSpec,
    StudySpec,
    parse_spec,
    read_spec,
    spec_differences,
    spec_digest,
    spec_table,
)

STUDIES = Path(__file__).parent.parent / "studies"


def table(**parts: Any) -> dict[str, Any]:
    return {"name": "toy", "data": {"dataset": "digits"}, **parts}


def test_only_name_and_dataset_are_required() -> None:
    spec = parse_spec(table())
    assert (spec.name, spec.data.dataset, spec.search, spec.objective.epochs) == ("toy", "digits", SearchSpec(), 20)
    assert [parameter.name for parameter in spec.space.parameters] == [
        *("learning_rate", "momentum", "batch_size", "depth", "units", "batch_norm"),
    ]


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.name)
def test_the_projects_study_files_are_valid_and_survive_being_stored(path: Path) -> None:
    spec = read_spec(path)
    assert parse_spec(spec_table(spec)) == spec
    assert path.read_text().startswith("# ")


def test_the_space_of_the_default_study_is_the_default_space() -> None:
    assert read_spec(STUDIES / "digits.toml").space == parse_spec(table()).space


def test_settings_replace_the_files_values(tmp_path: Path) -> None:
    path = tmp_path / "toy.toml"
    path.write_text('name = "toy"\n[data]\ndataset = "digits"\n')
    spec = read_spec(path, settings=["search.trials=7", "space.dropout=0.1", "search.sampler=random", "seed=3",
                                     "space.learning_rate={low=0.1, high=1.0}"])  # fmt: skip
    assert (spec.search.trials, spec.space.fixed, spec.search.sampler, spec.seed) == (7, {"dropout": 0.1}, "random", 3)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"nmae": "x"}, r"no key 'nmae'. Did you mean 'name'\?"),
        ({"name": "a b"}, r"name must be letters.*'a b'"),
        ({"name": "../up"}, r"name must be letters"),
        ({"name": 3}, r"name must be a text, but got 3"),
        ({"seed": -1}, r"seed must be a whole number from 0"),
        ({"seed": 1.5}, r"seed must be a whole number, but got 1.5"),
        ({"data": {}}, r"needs 'data.dataset'"),
        ({"data": {"dataset": "digits", "validation_fraction": 1}}, r"above 0 and below 1, but got 1.0"),
        ({"objective": {"metric": "val_acuracy"}}, r"Did you mean 'val_accuracy'\?"),
        ({"objective": {"epochs": 0}}, r"objective.epochs must be at least 1, but got 0"),
        ({"objective": {"epochs": True}}, r"objective.epochs must be a whole number, but got True"),
        ({"objective": {"network": "not an import"}}, r"package.module:function"),
        ({"search": {"trails": 5}}, r"no key 'search.trails'. Did you mean 'trials'\?"),
        ({"search": {"trials": 0}}, r"search.trials must be at least 1, but got 0"),
        ({"search": {"trials": "5"}}, r"search.trials must be a whole number, but got '5'"),
        ({"search": {"sampler": "tpee"}}, r"No sampler is called 'tpee'. Did you mean 'tpe'\?"),
        ({"search": {"engine": "rai"}}, r"No engine is called 'rai'. Did you mean 'ray'\?"),
        ({"search": {"cpus_per_worker": 0}}, r"search.cpus_per_worker"),
        ({"search": {"gpus_per_worker": 1.5}}, r"Give a number from 0 to 1, or a whole one"),
        ({"search": {"pruner": "hyperbnd"}}, r"No pruner is called 'hyperbnd'. Did you mean 'hyperband'\?"),
        ({"search": {"trainer": "slo"}}, r"No trainer is called 'slo'. Did you mean 'solo'\?"),
        ({"search": {"lease_s": 0.1}}, r"search.lease_s must be at least 1"),
        ({"search": {"timeout_s": float("nan")}}, r"search.timeout_s must be at least 1, but got nan"),
        ({"search": 5}, r"search must be a table, but got 5"),
        ({"space": {"learning_rate": {"low": 1, "high": 0.1}}}, r"low below high"),
    ],
)
def test_bad_study_files_are_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec(table(**parts))


def test_a_byte_order_mark_is_no_part_of_a_study_file(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_text('name = "toy"\ndata = { dataset = "digits" }\n', encoding="utf-8-sig")
    assert read_spec(path).name == "toy"


def test_a_study_file_may_come_through_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b'name = "toy"\ndata = { dataset = "digits" }\n')
    os.close(writing)
    assert read_spec(Path(f"/dev/fd/{reading}")).name == "toy"
    os.close(reading)


@pytest.mark.parametrize(
    ("contents", "message"),
    [("name = ", "not valid TOML"), ("\xff", "no study file|not valid TOML|cannot be read")],
)
def test_unreadable_files_are_refused(tmp_path: Path, contents: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(contents, encoding="latin-1")
    with pytest.raises(SpecError, match=message):
        read_spec(path)


def test_a_missing_file_and_a_bad_setting_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="There is no study file"):
        read_spec(tmp_path / "none.toml")
    with pytest.raises(SpecError, match="--set takes KEY=VALUE"):
        read_spec(STUDIES / "digits.toml", settings=["trials"])
    with pytest.raises(SpecError, match="is a value in the study file, not a table"):
        read_spec(STUDIES / "digits.toml", settings=["seed.x=1"])


def test_budget_time_and_trainer_may_change_and_nothing_else() -> None:
    old = parse_spec(table())
    grown = parse_spec(table(search={"trials": 99, "timeout_s": 5.0, "trainer": "solo", "workers": 4}))
    assert spec_differences(old, grown) == []
    assert spec_digest(old) == spec_digest(grown)
    other = parse_spec(table(seed=1, objective={"epochs": 30}, search={"sampler_options": {"n_startup_trials": 3}}))
    assert spec_differences(old, other) == [
        "seed: 0 → 1",
        "objective.epochs: 20 → 30",
        "search.sampler_options.n_startup_trials: (not there) → 3",
    ]
    assert spec_digest(old) != spec_digest(other)


def test_stages_in_a_study_file_are_refused_with_the_ways_on() -> None:
    with pytest.raises(SpecError, match=r"\[\[search.stages\]\] is no longer supported.*`caviar zoom STUDY`"):
        parse_spec(table(search={"stages": [{"trials": 8}]}))


def test_every_changeable_field_exists() -> None:
    assert {f"search.{field.name}" for field in dataclasses.fields(SearchSpec)} >= CHANGEABLE
    assert isinstance(parse_spec(table()), StudySpec)


def test_the_default_search_goes_from_coarse_to_fine_with_promotion() -> None:
    spec = parse_spec({"name": "toy", "data": {"dataset": "digits"}})
    assert (spec.search.sampler, spec.search.pruner) == ("zoom", "promotion")


def test_a_study_stored_under_other_defaults_keeps_its_sampler_and_pruner() -> None:
    before = spec_table(parse_spec({"name": "toy", "data": {"dataset": "digits"}}))
    before["search"] |= {"sampler": "tpe", "pruner": "successive_halving"}
    stored = parse_spec(json.loads(json.dumps(before)))
    assert (stored.search.sampler, stored.search.pruner) == ("tpe", "successive_halving")
    now = parse_spec({"name": "toy", "data": {"dataset": "digits"}})
    assert spec_differences(stored, now) == [
        'search.sampler: "tpe" → "zoom"',
        'search.pruner: "successive_halving" → "promotion"',
    ]


@pytest.mark.parametrize(
    ("key", "value", "parsed"),
    [
        ("image_size", 28, (28, 28)),
        ("image_size", [28, 14], (28, 14)),
        ("image_color", "grayscale", "grayscale"),
        ("columns", {"year": "category"}, {"year": "category"}),
        ("label", "species", "species"),
        ("test", "test.csv", "test.csv"),
        ("test_fraction", 0.3, 0.3),
    ],
)
def test_what_the_data_table_says_is_read_and_written_back(key: str, value: Any, parsed: Any) -> None:
    spec = parse_spec({"name": "toy", "data": {"dataset": "rows.csv", key: value}})
    assert getattr(spec.data, key) == parsed
    assert parse_spec(json.loads(json.dumps(spec_table(spec)))) == spec


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_size", [28], "must be a number of pixels or"),
        ("image_size", True, "must be a number of pixels or"),
        ("image_size", 0, "at least 1"),
        ("columns", {"year": "categry"}, "'category'"),
        ("columns", "year", "must be a table"),
        ("test_fraction", 1.0, "below 1"),
        ("image_color", "grey", "Allowed: rgb, grayscale"),
    ],
)
def test_what_the_data_table_may_not_say_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        parse_spec({"name": "toy", "data": {"dataset": "rows.csv", key: value}})


@pytest.mark.parametrize("value", ["balanced", {"rare": 3.0}])
def test_class_weights_are_read_and_written_back(value: Any) -> None:
    spec = parse_spec({"name": "toy", "data": {"dataset": "digits"}, "objective": {"class_weight": value}})
    assert parse_spec(json.loads(json.dumps(spec_table(spec)))) == spec


@pytest.mark.parametrize("value", ["balance", {"rare": 0}, {"rare": "much"}, 2.0])
def test_other_class_weights_are_refused(value: Any) -> None:
    with pytest.raises(SpecError, match=r"objective\.class_weight"):
        parse_spec({"name": "toy", "data": {"dataset": "digits"}, "objective": {"class_weight": value}})
