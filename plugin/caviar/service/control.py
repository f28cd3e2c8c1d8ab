"""Intervening in a running trial: the one place that calls what does it."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import optuna

from ..storage.home import Home
from ..storage.leased_storage import LeasedStorage
from .answers import Refusal


def control_trial(
    home: Home, storage: LeasedStorage, study: optuna.Study, number: int, what: Mapping[str, Any]
) -> dict[str, Any]:
    """Intervene in a trial, and return what became of it.

    Args:
        home: Where the study lives.
        storage: The service's.
        study: The study.
        number: The trial's.
        what: ``action``, and what it takes: ``values``, ``epochs`` or ``epoch``.

    Raises:
        Refusal: While this version cannot.
    """
    del home, storage, study, number, what
    assert importlib.util.find_spec("caviar.commands.control") is None, "call it here"
    raise Refusal(501, "This version cannot intervene in a running trial yet.")
