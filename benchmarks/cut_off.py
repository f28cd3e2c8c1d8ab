"""The storm over hosts: workers are killed, and a host is cut off from PostgreSQL for longer than the lease.

Run from the project's root, best as root: ``python -m benchmarks.cut_off`` (some minutes on 2 cores). Four hosts with
two workers each share a study on one PostgreSQL, which has MLflow's store too, and a home directory. Hosts are network
namespaces or, where these cannot be made, proxies. The budget must come out exact, in MLflow as well. What it measures
stands in docs/durability.md.
"""

import argparse
import contextlib
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from optuna.trial import TrialState
from tests.hosts import NETWORK, Host, bridge, hosts
from tests.postgresql import running_server
from tests.processes import Caviar, Watch, pids_below, running, write_study

from caviar.attributes import OWNER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=4, help="hosts (default: 4)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of each (default: 2)")
    parser.add_argument("--trials", type=int, default=200, help="budget (default: 200)")
    parser.add_argument("--kills", type=int, default=10, help="kills, spread over the budget (default: 10)")
    parser.add_argument("--lease-s", type=float, default=5.0, help="lease in seconds (default: 5)")
    parser.add_argument("--cut-s", type=float, default=30.0, help="seconds for which a host is cut off (default: 30)")
    parser.add_argument("--trainer", default="solo", help="solo or fleet (default: solo)")
    parser.add_argument("--proxies", action="store_true", help="use proxies, even where namespaces can be made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, bridge() as can, contextlib.ExitStack() as stack:
        bridged = can and not arguments.proxies
        listen = f"127.0.0.1,{NETWORK}.1" if bridged else "127.0.0.1"
        server = stack.enter_context(running_server(listen=listen))
        made = stack.enter_context(hosts(arguments.hosts, bridged=bridged, url=server.url))
        urls = stack.enter_context(server.database()), stack.enter_context(server.database())
        print(f"{'hosts':42}{'network namespaces' if bridged else 'proxies'}")
        storm(Path(directory), made, *urls, arguments)


def storm(
    directory: Path, made: Sequence[Host], storage: str, tracking_uri: str, arguments: argparse.Namespace
) -> None:
    file = write_study(
        directory,
        trials=arguments.trials,
        workers=arguments.workers,
        lease_s=arguments.lease_s,
        checkpoint_s=0.5,
        epochs=30,
        sampler="tpe",
        trainer=arguments.trainer,
    )
    home, started = directory / "runs", time.monotonic()
    watch = Watch(home, storage=storage, tracking_uri=tracking_uri)
    with contextlib.ExitStack() as stack:
        runs = []
        for host in made:
            urls = ("--storage", host.address(storage), "--tracking-uri", host.address(tracking_uri))
            runs.append(stack.enter_context(running("run", file, "--home", home, *urls, within=host.within)))
        killed, cut = disturb(watch, runs, made[-1], arguments)
        ended = [run.finish(timeout_s=600) for run in runs]
    seconds = time.monotonic() - started
    numbers, shown = [trial.number for trial in watch.trials()], watch.runs_by_trial()
    said = "".join(one.stderr for one in ended)
    figures = {
        "workers": len(made) * arguments.workers,
        "exit codes": [one.exit_code for one in ended],
        "seconds": round(seconds, 1),
        "finished (COMPLETE + PRUNED)": watch.finished(),
        "RUNNING or WAITING": watch.count(TrialState.RUNNING, TrialState.WAITING),
        "FAIL (its worker died three times)": watch.count(TrialState.FAIL),
        "workers killed": len(killed),
        "trials in the hands of the host cut off": len(cut),
        "of these ended by others": sum(pid not in cut.values() for pid in ended_by(watch, cut)),
        "trials that a worker let go of": said.count("its lease was lost"),
        "trial numbers given twice": len(numbers) - len(set(numbers)),
        "trials with more than one run in MLflow": sum(count > 1 for count in shown.values()),
        "trials without a run in MLflow": len(set(numbers) - set(shown)),
    }
    for name, value in figures.items():
        print(f"{name:42}{value}")
    sound = watch.finished() == arguments.trials and shown == Counter(numbers)
    curves = all(len(one.intermediate_values) == 30 for one in watch.trials() if one.state == TrialState.COMPLETE)
    if not sound or not curves or "Traceback" in said or any(one.exit_code for one in ended):
        raise SystemExit(f"The budget was missed, or something else went wrong:\n{said[-6000:]}")


def disturb(
    watch: Watch, runs: Sequence[Caviar], last: Host, arguments: argparse.Namespace
) -> tuple[list[int], dict[int, int]]:
    """Kill workers that hold a begun trial all along, and cut the last host off in the middle, until all runs end.

    Returns the killed processes, and what the host that was cut off held then: trial id → process.
    """
    killed: list[int] = []
    cut: dict[int, int] = {}
    mend_at_s: float | None = None
    while not all(run.ended() for run in runs):
        finished = watch.finished()
        if mend_at_s is None and finished >= arguments.trials // 4:
            workers = pids_below(runs[-1].pid)
            cut = {trial: pid for trial, pid in watch.holders().items() if pid in workers}
            if cut:
                last.cut()
                mend_at_s = time.monotonic() + arguments.cut_s
        if mend_at_s is not None and time.monotonic() >= mend_at_s:
            last.mend()
            mend_at_s = float("inf")
        if len(killed) < min(arguments.kills, finished * (arguments.kills + 1) // arguments.trials):
            begun = {trial._trial_id for trial in watch.trials() if trial.params}
            holders = watch.holders().items()
            victims = [pid for trial, pid in holders if trial in begun and pid not in (*killed, *cut.values())]
            if victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victims[0], signal.SIGKILL)
                    killed.append(victims[0])
        time.sleep(0.05)
    return killed, cut


def ended_by(watch: Watch, trial_ids: Collection[int]) -> list[int]:
    """Return which process ended each of some trials."""
    owners = [trial.system_attrs.get(OWNER, "::") for trial in watch.trials() if trial._trial_id in trial_ids]
    return [int(owner.split(":")[1] or 0) for owner in owners]


if __name__ == "__main__":
    main()
