import time

import pytest
from optuna.exceptions import StorageInternalError

from caviar.storage.leases import LeaseCheck
from caviar.worker.kept_leases import KeptLeases


class Buffer:
    """Counts what it is asked for; the first renewals fail."""

    def __init__(self, *, failures: int = 0) -> None:
        self.renewals, self.failures = 0, failures

    def flush(self) -> LeaseCheck:
        return LeaseCheck()

    def renew(self) -> LeaseCheck:
        self.renewals += 1
        if self.renewals <= self.failures:
            raise StorageInternalError("database is locked")
        return LeaseCheck()


def kept(buffer: Buffer, *, lease_s: float) -> KeptLeases:
    return KeptLeases(buffer, lease_s=lease_s)  # type: ignore[arg-type]  # what it uses of one


def test_the_thread_renews_leases_that_no_flush_has_renewed_and_goes_on_after_an_error() -> None:
    buffer = Buffer(failures=1)
    leases = kept(buffer, lease_s=0.3)
    deadline = time.monotonic() + 30
    with leases.renewed():
        while buffer.renewals < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert buffer.renewals >= 3


def test_what_a_flush_has_renewed_is_not_renewed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = Buffer()
    leases = kept(buffer, lease_s=30)
    now_s = time.monotonic()
    monkeypatch.setattr("caviar.worker.kept_leases.time.monotonic", lambda: now_s)

    class Done:
        """An event whose waits take their time by the clock above, and flush in between."""

        def __init__(self) -> None:
            self.waited: list[float] = []

        def wait(self, pause_s: float) -> bool:
            nonlocal now_s
            self.waited.append(pause_s)
            now_s += pause_s
            if len(self.waited) == 1:
                now_s -= 4
                leases.flush()
                now_s += 4
            return len(self.waited) == 4

    done = Done()
    leases._keep_renewing(done)  # type: ignore[arg-type]  # what it uses of one
    assert done.waited == [10, 6, 10, 10]
    assert buffer.renewals == 2
