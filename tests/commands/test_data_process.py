"""The look at the data happens in another process, and what goes wrong there is told here."""

import os

import pytest

from caviar.commands.data_process import DataLook
from caviar.commands.warming import warm_up
from caviar.errors import DataError
from caviar.spec import DataSpec

pytestmark = pytest.mark.slow


def dying() -> None:
    """End the process, as one that lacks memory does."""
    os._exit(3)


def test_facts_are_those_of_the_data() -> None:
    warm_up()
    facts = DataLook(DataSpec(dataset="tests.toy_data:blobs"), seed=0).facts()
    assert (facts.n_classes, facts.feature_shape) == (3, (4,))
    assert facts.n_train + facts.n_validation == 240
    with pytest.raises(DataError, match="exit code 3"):
        DataLook(DataSpec(dataset="tests.commands.test_data_process:dying"), seed=0).facts()
    with pytest.raises(DataError, match="digitz"):
        DataLook(DataSpec(dataset="digitz"), seed=0).facts()
