"""The machine: what it is, and how fast numpy multiplies matrices on it."""

import datetime
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

_RATE = """
import time
import numpy as np
size = 2048
left, right = (np.random.default_rng(seed).random((size, size), np.float32) for seed in (0, 1))
left @ right
begin, n = time.perf_counter(), 0
while n < 5 or time.perf_counter() - begin < 2.0:
    left @ right
    n += 1
print(2 * size**3 * n / (time.perf_counter() - begin))
"""


def numpy_flop_per_s(*, repeats: int = 3) -> float:
    """Return numpy's rate for the product of two float32 matrices of 2,048 × 2,048 on all cores, FLOP/s.

    Each repeat, of two seconds, is a process of its own, so that no side's threads are in its way; the best counts,
    since it is quoted as a ceiling.
    """
    rates = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", _RATE], check=True, capture_output=True, text=True)
        rates.append(float(done.stdout))
    return max(rates)


def describe_machine() -> dict[str, Any]:
    """Return what a reader of the numbers must know of the machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def spread(values: list[float], digits: int) -> str:
    """Return the median, with the range where there are several values."""
    if not values:
        return "–"
    median = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
