"""Work in a process beside the service: its errors come back, and no job that hangs or dies takes the next with it."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from caviar.service.answers import Refusal
from caviar.service.jobs import Jobs

pytestmark = pytest.mark.slow

PARENT = """
import asyncio, os, sys
from caviar.service.jobs import Jobs
async def main():
    jobs = Jobs("tests")
    print(await jobs.run(os.getpid, timeout_s=60), flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs("tests")
    yield jobs
    jobs.close()


def test_what_a_job_returns_or_raises_comes_back(jobs: Jobs) -> None:
    async def run() -> None:
        assert await jobs.run(os.getpid, timeout_s=60) != os.getpid()
        with pytest.raises(ValueError, match="invalid literal"):
            await jobs.run(int, "x", timeout_s=60)

    asyncio.run(run())


def test_a_job_that_hangs_is_given_up_and_the_next_one_runs(jobs: Jobs) -> None:
    async def run() -> None:
        await jobs.run(os.getpid, timeout_s=60)
        hanging = asyncio.create_task(jobs.run(time.sleep, 60, timeout_s=0.1))
        assert await jobs.run(abs, -1, timeout_s=60) == 1
        with pytest.raises(Refusal, match="503"):
            await hanging

    asyncio.run(run())


def test_what_waits_does_not_end_what_is_done_before(jobs: Jobs) -> None:
    """A report may take minutes, and the check of an upload behind it has seconds."""

    async def run() -> None:
        await jobs.run(os.getpid, timeout_s=60)
        before = asyncio.create_task(jobs.run(time.sleep, 2, timeout_s=60))
        await asyncio.sleep(0)
        assert await jobs.run(abs, -1, timeout_s=1) == 1
        await before

    asyncio.run(run())


def test_a_job_that_kills_its_process_is_told_and_the_next_one_runs(jobs: Jobs) -> None:
    async def run() -> None:
        with pytest.raises(Refusal, match="503"):
            await jobs.run(os._exit, 1, timeout_s=60)
        assert await jobs.run(abs, -1, timeout_s=60) == 1

    asyncio.run(run())


def test_jobs_beyond_all_are_refused(jobs: Jobs) -> None:
    async def run() -> None:
        waiting = [asyncio.create_task(jobs.run(abs, -1, timeout_s=60)) for _ in range(30)]
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert {error.status_code for error in done if isinstance(error, Refusal)} == {429}
        assert done.count(1) == 16

    asyncio.run(run())


def test_a_service_that_is_killed_leaves_no_process_behind() -> None:
    service = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    helper = psutil.Process(int(service.stdout.readline()))
    service.kill()
    service.communicate()
    helper.wait(timeout=20)
