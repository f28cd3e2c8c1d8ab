import json
from typing import Any

import optuna
import pytest

from caviar.attributes import CHILDREN, PARENT, PARENT_TRIAL
from caviar.insight.family import child_names, family_members, parent_name
from caviar.spec import spec_table

from .synthetic import make_spec


def make_family(**attributes: dict[str, Any]) -> list[optuna.Study]:
    studies = []
    for name, attrs in attributes.items():
        study = optuna.create_study(study_name=name, direction="maximize")
        study.set_user_attr("caviar:spec", json.dumps(spec_table(make_spec(name=name))))
        for key, value in attrs.items():
            study.set_user_attr(key, value)
        studies.append(study)
    return studies


@pytest.mark.parametrize("current", [0, 1, 2])
def test_every_member_has_its_generation_and_the_report_is_about_one(current: int) -> None:
    family = make_family(
        coarse={CHILDREN: ["fine", "other"]}, fine={PARENT: "coarse"}, other={PARENT: "coarse"}, finest={PARENT: "fine"}
    )
    members = family_members(family, current=family[current])
    assert [(m.name, m.generation) for m in members] == [("coarse", 0), ("fine", 1), ("other", 1), ("finest", 2)]
    assert [m.is_current for m in members] == [place == current for place in range(4)]


def test_copies_are_no_trials_of_their_own() -> None:
    coarse, fine = make_family(coarse={CHILDREN: ["fine"]}, fine={PARENT: "coarse"})
    own = optuna.trial.create_trial(value=0.5)
    fine.add_trials([own, optuna.trial.create_trial(value=0.9, user_attrs={PARENT_TRIAL: 3})])
    _, member = family_members([coarse, fine], current=coarse)
    assert ([row.value for row in member.rows], member.n_copied, member.best_value) == ([0.5], 1, 0.9)


def test_a_study_alone_or_with_a_foreign_one_has_no_family() -> None:
    alone, orphan = make_family(alone={}, orphan={PARENT: "deleted", CHILDREN: ["never"]})
    foreign = optuna.create_study(study_name="foreign")
    assert family_members([alone], current=alone) == family_members([orphan, foreign], current=orphan) == ()
    assert (parent_name(orphan), child_names(orphan)) == ("deleted", ["never"])
    assert (parent_name(alone), child_names(alone)) == (None, [])
