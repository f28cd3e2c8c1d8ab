"""Fashion-MNIST from its four files to a champion: test accuracy, and the time that all of it takes.

    CAVIAR_BENCH_DATA=… python benchmarks/fashion.py [--part dense] [--part convolutional]

TFDS' own builder prepares the data in a scratch directory, from the files in ``CAVIAR_BENCH_DATA``. Then the commands
that each study file names are run; the dense champion may average five networks.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from caviar.data.prepare import prepare_dataset

ROOT = Path(__file__).parent.parent
CHAMPION = {
    "dense": ("fashion", ["--top", "1", "--seeds", "3", "--ensemble", "4"]),
    "convolutional": ("fashion_cnn", ["--top", "1", "--seeds", "2"]),
}


def caviar(*arguments: str, home: Path) -> tuple[Any, float]:
    """Run a command from the project's root; return what it says as JSON, and its seconds."""
    started = time.monotonic()
    command = [sys.executable, "-m", "caviar", *arguments, "--home", str(home), "--json"]
    printed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed), time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=list(CHAMPION))
    parts = parser.parse_args().part or list(CHAMPION)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(os.environ["CAVIAR_BENCH_DATA"]) / "fashion_mnist"
        data = prepare_dataset("fashion_mnist", data_dir=Path(scratch) / "tfds", manual_dir=files)
        for part in parts:
            study, options = CHAMPION[part]
            home = Path(scratch) / part
            run, searched = caviar("run", f"studies/{study}.toml", "--set", f'data.dataset="{data}"', home=home)
            champion, raced = caviar("champion", study, *options, home=home)
            accuracy, low, high = champion["test"]["accuracy"]
            print(
                f"{part}: search {searched:.0f} s, best {run['best']['value']:.4f}; champion {raced:.0f} s", flush=True
            )
            print(f"{part}: test accuracy {accuracy:.4f} ({low:.4f} to {high:.4f}), {champion['test']['baselines']}")
            print(
                f"{part}: {champion['configuration']}, {champion['epochs']} epochs, {champion['ensemble']}", flush=True
            )


if __name__ == "__main__":
    main()
