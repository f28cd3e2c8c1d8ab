"""What a run and its Ray actors tell each other arrives as it was sent, as text; Ray itself is not needed for it."""

import dataclasses
import json
import time
from pathlib import Path

import pytest

from caviar.data.dataset import DatasetFacts
from caviar.engines.engine import Died, WorkOrder
from caviar.engines.protocol import Refusal
from caviar.engines.ray_messages import (
    Answer,
    Begun,
    Ended,
    Gone,
    answer_text,
    order_text,
    read_answer,
    read_order,
)
from caviar.errors import DataError
from caviar.spec import parse_spec
from caviar.storage.home import locate_home

FACTS = DatasetFacts(
    name="toy",
    n_train=192,
    n_validation=48,
    majority=0.4,
    entropy=1.0,
    recall_weights=0.3,
    n_classes=3,
    feature_shape=(8, 8),
    fingerprint="0f",
)


@pytest.mark.parametrize(
    "answer",
    [
        FACTS,
        Begun(token="a-1", node="n", worker="12 on here"),
        Gone(),
        Ended(ending="recycle"),
        Died(worker="12", how="killed by SIGKILL"),
        Refusal(kind=DataError, message="no data"),
    ],
)
def test_an_answer_arrives_as_it_was_sent(answer: Answer) -> None:
    assert read_answer(answer_text(answer)) == answer


def test_what_is_no_answer_is_refused_and_nothing_is_made_of_it() -> None:
    made_up = ["[]", "3", '["os", {}]', '["Refusal", {"kind": "Iterable", "message": ""}]', '["Ended", {"other": 1}]']
    for text in ["", *made_up]:
        with pytest.raises(ValueError, match=r"answered|Expecting|no error of ours|not enough"):
            read_answer(text)


def test_an_order_arrives_with_its_spec_its_addresses_and_the_time_that_is_left(tmp_path: Path) -> None:
    spec = parse_spec({"name": "toy", "data": {"dataset": "digits"}, "search": {"engine": "ray", "workers": 3}})
    home = locate_home(tmp_path, storage="postgresql+psycopg://ann@db/studies")
    sent = WorkOrder(home=home, study="toy", spec=spec, threads=2, uid="u", deadline_s=time.monotonic() + 60)
    came = read_order(order_text(sent))
    assert came.deadline_s == pytest.approx(sent.deadline_s, abs=5)
    assert dataclasses.replace(came, deadline_s=sent.deadline_s) == sent
    without = dataclasses.replace(sent, deadline_s=None)
    assert read_order(order_text(without)) == without
    assert json.loads(order_text(without))["spec"]["search"]["engine"] == "ray"
