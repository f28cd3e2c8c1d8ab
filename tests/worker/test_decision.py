import pytest

from caviar.worker.decision import Decision, decide


@pytest.mark.parametrize(
    ("epochs", "pruned", "paused", "expected"),
    [
        (1, False, False, Decision.GO_ON),
        (1, False, True, Decision.PARK),
        (1, True, False, Decision.PRUNE),
        (1, True, True, Decision.PRUNE),
        (4, False, False, Decision.COMPLETE),
        (4, False, True, Decision.COMPLETE),
        (4, True, False, Decision.PRUNE),
        (5, False, False, Decision.COMPLETE),
    ],
)
def test_each_trial_gets_one_decision_after_an_epoch(
    epochs: int, pruned: bool, paused: bool, expected: Decision
) -> None:
    assert decide(epochs=epochs, max_epochs=4, pruned=pruned, paused=paused) is expected
