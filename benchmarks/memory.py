"""How much memory one worker's process grows by, trial after trial, if it is never replaced.

Run from the project's root: ``python -m benchmarks.memory`` (two minutes on 2 cores).
"""

import argparse
import re
import signal
import tempfile
import threading
import time
from pathlib import Path

from tests.processes import Watch, write_study

from caviar.commands.run import new_study_attributes
from caviar.data.dataset import DatasetFacts
from caviar.data.loading import load_dataset
from caviar.engines.engine import WorkOrder
from caviar.engines.work import work
from caviar.record.tracking import prepare_tracking
from caviar.spec import read_spec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home
from caviar.storage.studies import create_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="trials of one process (default: 200)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        spec, home = read_spec(write_study(Path(directory), trials=arguments.trials)), locate_home(Path(directory))
        prepare_tracking(home.tracking_uri)
        storage = open_storage(home.storage, owner=new_owner(), create=True)
        facts = DatasetFacts.of(load_dataset(spec.data.dataset, seed=spec.seed))
        create_study(storage, spec, attributes=new_study_attributes(facts))
        order = WorkOrder(home=home, study=spec.name, spec=spec, threads=1, max_trials=None)
        watch, stop, rss = Watch(Path(directory)), threading.Event(), {}

        def sample() -> None:
            while not stop.wait(0.25):
                rss[watch.finished()] = resident_mb()

        thread = threading.Thread(target=sample)
        thread.start()
        started = time.monotonic()
        try:
            work(order, owner=new_owner(), stop=threading.Event())
            rss[watch.finished()] = resident_mb()
        finally:
            stop.set()
            thread.join()
        seconds = time.monotonic() - started
    for wanted in (10, 50, 100, 150, arguments.trials):
        nearest = min(rss, key=lambda n, wanted=wanted: abs(n - wanted))  # type: ignore[misc]
        print(f"after {nearest:4} trials {rss[nearest]:7.0f} MB")
    first = min(n for n in rss if n >= 10)
    last = max(rss)
    print(f"{(rss[last] - rss[first]) / (last - first):.2f} MB a trial; {seconds:.0f} s")


def resident_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
