import json
from typing import Any

import optuna
import pytest

from caviar.attributes import CHILDREN, PARENT, PARENT_TRIAL
from caviar.insight.lineage import read_lineage
from caviar.spec import spec_table

from .synthetic import make_spec


def family(**attributes: dict[str, Any]) -> dict[str, optuna.Study]:
    studies = {}
    for name, attrs in attributes.items():
        study = optuna.create_study(study_name=name, direction="maximize")
        study.set_user_attr("caviar:spec", json.dumps(spec_table(make_spec(name=name))))
        for key, value in attrs.items():
            study.set_user_attr(key, value)
        studies[name] = study
    return studies


@pytest.mark.parametrize("asked", ["coarse", "middle", "fine"])
@pytest.mark.parametrize("children", [["middle"], '["middle"]', "middle", [{"study": "middle"}]])
def test_every_member_sees_the_whole_family_parents_first(asked: str, children: Any) -> None:
    studies = family(
        coarse={CHILDREN: children}, middle={PARENT: "coarse", CHILDREN: ["fine"]}, fine={PARENT: "middle"}
    )
    members = read_lineage(studies[asked], open_other=studies.__getitem__)
    assert [(m.name, m.generation, m.is_current) for m in members] == [
        (name, generation, name == asked) for generation, name in enumerate(("coarse", "middle", "fine"))
    ]


def test_copies_are_no_trials_of_their_own() -> None:
    studies = family(coarse={CHILDREN: ["fine"]}, fine={PARENT: "coarse"})
    own = optuna.trial.create_trial(value=0.5)
    studies["fine"].add_trials([own, optuna.trial.create_trial(value=0.9, user_attrs={PARENT_TRIAL: 3})])
    _, fine = read_lineage(studies["coarse"], open_other=studies.__getitem__)
    assert ([row.value for row in fine.rows], fine.n_copied, fine.best_value) == ([0.5], 1, 0.9)


def test_a_study_alone_and_relatives_that_are_gone_give_no_family() -> None:
    studies = family(alone={}, orphan={PARENT: "deleted", CHILDREN: ["never", "["]})
    assert read_lineage(studies["alone"], open_other=studies.__getitem__) == ()
    assert read_lineage(studies["orphan"], open_other=studies.__getitem__) == ()


def test_a_circle_is_cut() -> None:
    studies = family(a={PARENT: "b", CHILDREN: ["b"]}, b={PARENT: "a", CHILDREN: ["a"]})
    assert {member.name for member in read_lineage(studies["a"], open_other=studies.__getitem__)} == {"a", "b"}
