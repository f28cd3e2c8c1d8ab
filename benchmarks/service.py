"""What watching costs a search, and how fast Optuna as a service is.

Part ``watching``: a fleet trains, alone and while 50 clients watch it through `caviar serve`; sides alternate. Each
client holds a stream of the study and asks for its status every three seconds, as a page does. The clients run on the
same machine, so what they cost themselves is in the figure; their CPU time is told beside it.

Part ``asking``: eight clients ask and tell, each over its own connection, until a study's budget is spent.

    python benchmarks/service.py                       # about 6 minutes on 2 cores
    python benchmarks/service.py --part asking --trials 2000
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import psutil
import requests

from harness.machine import describe_machine

STUDY = Path(__file__).parents[1] / "studies" / "digits.toml"
PARTS = ("watching", "asking")
HEADERS = {"X-Caviar": "1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watching:
    """A search, watched or not.

    Attributes:
        seconds: From its start to its end.
        delays_s: Of each answered request.
        failed: Requests and streams that failed.
        events: What the streams have sent.
        client_cpu_s: CPU time of the clients.
        server_cpu_s: CPU time of the service.
    """

    seconds: float
    delays_s: list[float] = dataclasses.field(default_factory=list)
    failed: int = 0
    events: int = 0
    client_cpu_s: float = 0.0
    server_cpu_s: float = 0.0


@contextlib.contextmanager
def service(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Serve a home; give the address once both dashboards are loaded, and the process."""
    command = [sys.executable, "-m", "caviar", "serve", "--home", str(home), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        for path in ("/dashboard/", "/mlflow/"):
            requests.get(address + path, timeout=120).raise_for_status()
        yield address, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def search(home: Path, *, trials: int) -> float:
    """Run the digits study, and return how many seconds it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "caviar", "run", str(STUDY), "--trials", str(trials), "--home", str(home)]
    subprocess.run([*command, "--workers", "2"], check=True, capture_output=True)
    return time.perf_counter() - began


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and body of an answer of known length: a bare client costs the machine less than a library."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
    return int(head.split(" ")[1]), await reader.readexactly(length)


class Clients:
    """Clients that watch a study until they are told to stop."""

    def __init__(self, address: str, study: str, *, n: int, every_s: float) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._study, self._n, self._every_s = study, n, every_s
        self.delays_s: list[float] = []
        self.failed = self.events = 0
        self.stop = asyncio.Event()

    async def watch(self) -> None:
        """Have all of them watch; the study must be there."""
        tasks = [asyncio.create_task(one) for k in range(self._n) for one in (self._poll(k), self._stream())]
        await self.stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return reader, writer

    async def _poll(self, k: int) -> None:
        await asyncio.sleep(self._every_s * k / self._n)
        reader, writer = await asyncio.open_connection(self._host, self._port)
        request = f"GET /v1/studies/{self._study} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        while True:
            began = time.perf_counter()
            try:
                writer.write(request)
                status, _ = await read_answer(reader)
                self.failed += status != 200
                self.delays_s.append(time.perf_counter() - began)
            except (OSError, asyncio.IncompleteReadError):
                self.failed += 1
                reader, writer = await asyncio.open_connection(self._host, self._port)
            await asyncio.sleep(self._every_s)

    async def _stream(self) -> None:
        reader, _ = await self._ask(f"/v1/studies/{self._study}/stream")
        while line := await reader.readline():
            self.events += line.startswith(b"event:")
        self.failed += 1  # it ended while the study was there


def watch_search(home: Path, *, trials: int, n: int, every_s: float) -> Watching:
    """Run the study while clients watch it, from when it is there to its end."""
    with service(home) as (address, process):
        before = process.cpu_times()
        used = resource.getrusage(resource.RUSAGE_SELF)
        clients = Clients(address, "digits", n=n, every_s=every_s)

        async def watch() -> float:
            running = asyncio.create_task(asyncio.to_thread(search, home, trials=trials))
            while not running.done():
                answer = await asyncio.to_thread(requests.get, f"{address}/v1/studies/digits", timeout=10)
                if answer.ok:
                    break
                await asyncio.sleep(0.2)
            watching = asyncio.create_task(clients.watch())
            seconds = await running
            clients.stop.set()
            await watching
            return seconds

        seconds = asyncio.run(watch())
        after, now_used = process.cpu_times(), resource.getrusage(resource.RUSAGE_SELF)
    return Watching(
        seconds=seconds,
        delays_s=clients.delays_s,
        failed=clients.failed,
        events=clients.events,
        client_cpu_s=now_used.ru_utime + now_used.ru_stime - used.ru_utime - used.ru_stime,
        server_cpu_s=after.user + after.system - before.user - before.system,
    )


def compare_watching(scratch: Path, *, rounds: int, trials: int, n: int, every_s: float) -> dict[str, Any]:
    """Alternate a search alone with one that is watched."""
    alone, watched = [], []
    for number in range(rounds):
        alone.append(search(scratch / f"alone-{number}", trials=trials))
        watched.append(watch_search(scratch / f"watched-{number}", trials=trials, n=n, every_s=every_s))
        click.echo(f"round {number}: alone {alone[-1]:.1f} s, watched {watched[-1].seconds:.1f} s", err=True)
    delays = sorted(delay for one in watched for delay in one.delays_s)
    ratios = [one.seconds / before for one, before in zip(watched, alone, strict=True)]
    return {
        "clients": n,
        "trials": trials,
        "alone_s": alone,
        "watched_s": [one.seconds for one in watched],
        "slowdown": statistics.median(ratios) - 1,
        "requests": len(delays),
        "events": sum(one.events for one in watched),
        "failed": sum(one.failed for one in watched),
        "median_delay_s": statistics.median(delays),
        "p99_delay_s": delays[int(0.99 * (len(delays) - 1))],
        "client_cpu_s": [one.client_cpu_s for one in watched],
        "server_cpu_s": [one.server_cpu_s for one in watched],
    }


def measure_asking(home: Path, *, trials: int, n: int) -> dict[str, Any]:
    """Let clients spend a budget by ask and tell, and count what they got."""
    told: list[int] = []
    lock = threading.Lock()
    with service(home) as (address, _):
        study = f"{address}/v1/asked/asking"
        space = {"x": {"low": -1.0, "high": 1.0}, "y": {"low": 1e-4, "high": 1.0, "scale": "log"}}
        new: dict[str, Any] = {
            "name": "asking",
            "direction": "minimize",
            "space": space,
            "trials": trials,
            "sampler": "random",
        }
        requests.post(f"{address}/v1/asked", json=new, headers=HEADERS, timeout=60).raise_for_status()

        def work() -> None:
            with requests.Session() as session:
                session.headers.update(HEADERS)
                while True:
                    asked = session.post(f"{study}/ask", timeout=60)
                    asked.raise_for_status()
                    trial = asked.json()
                    if trial["state"] == "done":
                        return
                    if trial["state"] == "wait":
                        time.sleep(0.05)
                        continue
                    value = trial["params"]["x"] ** 2 + trial["params"]["y"]
                    said: dict[str, Any] = {"lease": trial["lease"], "value": value}
                    session.post(f"{study}/trials/{trial['number']}/tell", json=said, timeout=60).raise_for_status()
                    with lock:
                        told.append(trial["number"])

        began = time.perf_counter()
        threads = [threading.Thread(target=work) for _ in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        counts = requests.get(study, timeout=60).json()
    return {
        "clients": n,
        "budget": trials,
        "told": len(told),
        "told_once": len(set(told)),
        "study": counts.get("trials"),
        "seconds": seconds,
        "cycles_per_minute": 60 * len(told) / seconds,
    }


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Of the part watching.")
@click.option("--trials", default=200, show_default=True, help="Of each study.")
@click.option("--clients", default=50, show_default=True, help="That watch.")
@click.option("--every", "every_s", default=3.0, show_default=True, help="Seconds between a client's requests.")
def main(parts: tuple[str, ...], rounds: int, trials: int, clients: int, every_s: float) -> None:
    """Measure, and print JSON."""
    result: dict[str, Any] = {"machine": describe_machine(), "load": os.getloadavg()}
    with tempfile.TemporaryDirectory() as scratch:
        if "watching" in parts:
            result["watching"] = compare_watching(
                Path(scratch), rounds=rounds, trials=trials, n=clients, every_s=every_s
            )
        if "asking" in parts:
            result["asking"] = measure_asking(Path(scratch) / "asking", trials=trials, n=8)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
