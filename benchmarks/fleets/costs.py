"""What each transaction of a worker costs on PostgreSQL: CPU of the server and of the worker, by the study's size.

Run from the project's root: ``python -m benchmarks.fleets.costs`` (half a minute). One worker makes the transactions
of its trials, one after the other, on studies with more and more finished trials and trials that others run. CPU is
counted by the kernel, in nanoseconds, so that other work on the machine disturbs little. A line is fitted to each.
"""

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import TrialState
from scipy.optimize import nnls
from tests.postgresql import running_server
from tests.worker.fakes import Made

from caviar import KerasObjective
from caviar.optuna_private import id_of_study, optuna_tables
from caviar.storage.buffered_storage import BufferedStorage
from caviar.storage.database import new_owner, open_storage
from caviar.storage.leased_storage import LeasedStorage
from caviar.storage.leases import take_leases
from caviar.storage.tickets import claim_tickets

from .model import KINDS, Cost, Costs, Line
from .turns import EPOCHS, SPACE, counting_tally, make_spec

FINISHED, RUNNING = (0, 1_000, 5_000), (0, 200)
OWN = {1: 20, 16: 4}  # trials that the worker holds at once → how often it does
LEASE_S = 3600.0

#: Kind; finished, others' running, own, newly finished trials; CPU seconds of server and worker, round trips.
Sample = tuple[str, tuple[int, int, int, int], tuple[float, float, float]]


def main() -> None:
    costs = measure_costs(say=print)
    print(f"\n{'transaction':12}{'whose':10}{'base ms':>10}", end="")
    print(f"{'finished':>10}{'running':>10}{'own':>10}{'new':>10}   (µs for each such trial)")
    for kind, cost in costs.items():
        for whose, line in (("server", cost.server), ("worker", cost.worker)):
            slopes = "".join(f"{1e6 * slope:10.2f}" for slope in (line.finished, line.running, line.own, line.new))
            print(f"{kind:12}{whose:10}{1e3 * line.base:10.2f}{slopes}")
        print(f"{kind:12}{'trips':10}{cost.trips:10.1f}")


def measure_costs(*, say: Callable[[str], object]) -> Costs:
    """Return what each kind of transaction costs, fitted to all that was measured."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samples: list[Sample] = []
    with running_server() as server:
        for running in RUNNING:
            with server.database() as url:
                made = Made(
                    open_storage(url, owner=new_owner(), create=True),
                    make_spec(4, workers=1),
                    KerasObjective("tests.toy_data:blobs", epochs=EPOCHS, space=SPACE),
                )
                made.work()
                study_id = id_of_study(made.study)
                for finished in FINISHED:
                    _grow(made.storage, study_id, finished=finished, running=running)
                    samples += _measure(made.storage, url, study_id, running=running)
                made.storage.engine.dispose()
                say(f"measured with {running} trials of others")
    return fit(samples)


def fit(samples: Sequence[Sample]) -> Costs:
    """Fit a line without negative slopes to each kind of transaction, so that relative errors are small."""
    costs = {}
    for kind in KINDS:
        mine = [(size, cost) for of, size, cost in samples if of == kind]
        sizes = np.array([(1, *size) for size, _ in mine], float)
        server, worker, trips = (np.array([cost[part] for _, cost in mine]) for part in range(3))
        lines = []
        for seconds in (server, worker):
            weighted, _ = nnls(sizes / seconds[:, None], np.ones(len(seconds)))
            lines.append(Line(*map(float, weighted)))
        costs[kind] = Cost(server=lines[0], worker=lines[1], trips=float(np.median(trips)))
    return costs


def _grow(storage: LeasedStorage, study_id: int, *, finished: int, running: int) -> None:
    """Copy trial 3 until the study has so many finished trials, and so many that another worker runs, halfway."""
    trials = optuna_tables().trials
    own = trials.c.study_id == study_id
    with storage.engine.begin() as connection:
        states = connection.execute(sqlalchemy.select(trials.c.state).where(own)).scalars().all()
        template = connection.execute(
            sqlalchemy.select(trials.c.trial_id).where(own, trials.c.number == 3)
        ).scalar_one()
        first = len(states)
        for state, wanted in ((TrialState.COMPLETE, finished), (TrialState.RUNNING, running)):
            last = first + wanted - states.count(state) - 1
            if last < first:
                continue
            number = sqlalchemy.func.generate_series(first, last).column_valued("number")
            now = sqlalchemy.func.timezone("utc", sqlalchemy.func.now())
            given = sqlalchemy.literal(study_id), sqlalchemy.literal(state, trials.c.state.type)
            rows = sqlalchemy.select(number, *given, now)
            names = ["number", "study_id", "state", "datetime_start"]
            statement = trials.insert().from_select(names, rows).returning(trials.c.trial_id)
            made = connection.execute(statement).scalars().all()
            _copy(connection, template, made, whole=state == TrialState.COMPLETE)
            if state == TrialState.RUNNING:
                take_leases(connection, made, "another:1:00000000")
            first = last + 1
    with storage.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text("ANALYZE"))


def _copy(connection: sqlalchemy.Connection, template: int, made: Sequence[int], *, whole: bool) -> None:
    """Give new trials what the template has: all of it, or its parameters and the first half of its reports."""
    tables, trials = optuna_tables(), optuna_tables().trials
    parts = [tables.params, tables.intermediate_values]
    if whole:
        parts += [tables.values, tables.user_attributes, tables.system_attributes]
    for table in parts:
        kept = [column for column in table.c if not column.primary_key and column.name != "trial_id"]
        pairs = trials.join(table, table.c.trial_id == template)
        new = trials.c.trial_id.between(min(made), max(made))
        rows = sqlalchemy.select(trials.c.trial_id, *kept).select_from(pairs).where(new)
        if table is tables.intermediate_values and not whole:
            rows = rows.where(table.c.step < EPOCHS // 2)
        connection.execute(table.insert().from_select(["trial_id", *(column.name for column in kept)], rows))


def _measure(storage: LeasedStorage, url: str, study_id: int, *, running: int) -> list[Sample]:
    """Run trials through all their transactions, and return the medians of what these cost."""
    mine, watching = BufferedStorage(storage, study_id), BufferedStorage(open_storage(url, owner=new_owner()), study_id)
    meters = Meter(storage), Meter(watching._backend)
    samples: list[Sample] = []
    template = mine.get_all_trials(study_id)[3]
    for own, repeats in OWN.items():
        finished = sum(trial.state.is_finished() for trial in mine.get_all_trials(study_id, deepcopy=False))
        found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for _ in range(repeats):
            options: dict[str, Any] = {"budget": 10**9, "lease_s": LEASE_S, "retries": 2}

            def claim(n: int = own, options: dict[str, Any] = options) -> Any:
                return claim_tickets(storage, study_id, n=n, **options)

            tickets = meters[0].measure(claim, found["claim"])
            mine.refresh()
            ids = [ticket.trial_id for ticket in tickets]
            for trial_id, (name, drawn) in itertools.product(ids, template.distributions.items()):
                mine.set_trial_param(trial_id, name, drawn.to_internal_repr(template.params[name]), drawn)
            meters[0].measure(mine.flush, found["announce"])
            for trial_id in ids:
                mine.set_trial_intermediate_value(trial_id, 0, 0.5)
            meters[0].measure(mine.flush, found["report"])
            meters[0].measure(mine.renew, found["renew"])
            for trial_id in ids:
                for key, value in template.user_attrs.items():
                    mine.set_trial_user_attr(trial_id, key, value)
                mine.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
            meters[0].measure(mine.flush, found["end"])
            meters[1].measure(watching.refresh, found["read_new"])
            meters[1].measure(watching.refresh, found["read"])
        for kind, costs in found.items():
            median = tuple(statistics.median(cost[part] for cost in costs) for part in range(3))
            reads = kind.startswith("read")
            size = (finished, running, 0 if reads else own, own if kind == "read_new" else 0)
            samples.append(("read" if reads else kind, size, median))  # type: ignore[arg-type]
    watching._backend.engine.dispose()
    return samples


class Meter:
    """Measures what a storage's transactions cost its one connection's server process, and this one."""

    def __init__(self, storage: LeasedStorage) -> None:
        storage.engine.dispose()
        with storage.engine.connect() as connection:  # from now on its pool has no other
            self._pid = connection.execute(sqlalchemy.text("SELECT pg_backend_pid()")).scalar_one()
        self._tally = counting_tally()

    def measure(self, act: Callable[[], Any], into: list[tuple[float, float, float]]) -> Any:
        """Do it, and append CPU seconds of the server and of this process, and round trips."""
        server, before = self._server_s(), self._tally()
        result = act()
        used = self._tally() - before
        trips = used.statements + 3 * used.commits  # each transaction asks whether the server lives, begins, commits
        into.append((self._server_s() - server, used.cpu_s, trips))
        return result

    def _server_s(self) -> float:
        spent, before = Path(f"/proc/{self._pid}/schedstat"), ""
        while (now := spent.read_text().split()[0]) != before:  # until it waits for us: all that it did is counted then
            before = now
            time.sleep(0.0005)
        return int(now) / 1e9


if __name__ == "__main__":
    main()
