"""How fast `caviar predict` is, and how much memory it takes, from ten thousand rows to a million.

    python benchmarks/predicting.py [--sizes 10000,100000,1000000]

A champion of a table with 20 columns (15 of numbers, 4 of texts, one boolean, with missing values) is made in a scratch
home. For every size its rows are written as CSV and Parquet, and predicted by `caviar predict` in a process of its own.
Time and peak memory are those of the whole process, start-up included; beside them `model.predict` on the same rows as
arrays that are already prepared, in a process that has TensorFlow loaded.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

N_NUMBERS, N_TEXTS, N_ROWS_LEARNT = 15, 4, 4000
WORDS = np.array(["amber", "brown", "cyan", "denim", "ecru", "fawn"])


def make_rows(n: int, *, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    columns = {f"number_{i}": generator.normal(size=n).astype(np.float32) for i in range(N_NUMBERS)}
    columns |= {f"text_{i}": WORDS[generator.integers(0, len(WORDS), n)] for i in range(N_TEXTS)}
    frame = pd.DataFrame(columns | {"flag": generator.random(n) < 0.5})
    frame.loc[::17, "number_0"] = np.nan
    score = frame["number_1"] + frame["number_2"] * frame["flag"] + (frame["text_0"] == "amber")
    return frame.assign(label=np.where(score > 0.3, "yes", "no"))


def make_champion_in(home: Path, *, directory: Path) -> None:
    from caviar.commands.champion import make_champion
    from caviar.commands.run import run_study
    from caviar.spec import parse_spec
    from caviar.storage.home import locate_home

    make_rows(N_ROWS_LEARNT, seed=0).to_csv(directory / "learnt.csv", index=False)
    table = {
        "name": "table",
        "data": {"dataset": str(directory / "learnt.csv"), "label": "label"},
        "objective": {"epochs": 10},
        "search": {"trials": 10},
    }
    run_study(parse_spec(table), locate_home(home))
    make_champion(locate_home(home), "table", top=2, seeds=2)


# A small process starts it: a child's peak is never below its parent's memory when it was started.
_WATCH = """if True:
    import resource, subprocess, sys
    subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def predict(path: Path, home: Path) -> tuple[float, float]:
    """Run `caviar predict` on a file; return seconds, and peak memory in MiB."""
    command = [sys.executable, "-m", "caviar", "predict", "table", str(path), "--home", str(home)]
    command += ["--output", str(path.with_name("labels.parquet"))]
    started = time.monotonic()
    watched = subprocess.run([sys.executable, "-c", _WATCH, *command], check=True, capture_output=True, text=True)
    return time.monotonic() - started, int(watched.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    sizes = [int(size) for size in parser.parse_args().sizes.split(",")]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        directory, home = Path(scratch), Path(scratch) / "home"
        make_champion_in(home, directory=directory)
        from caviar import load_champion

        champion = load_champion("table", home=home)
        champion.predict_proba(make_rows(10, seed=1).drop(columns="label"))
        import keras

        model = keras.saving.load_model(champion.path / "network.keras", compile=False)
        print("| rows | file | seconds | rows a second | peak memory, MiB | model.predict, rows a second |")
        print("|---|---|---|---|---|---|")
        for n in sizes:
            rows = make_rows(n, seed=2).drop(columns="label")
            features = champion.features(rows)
            started = time.monotonic()
            model.predict(features, batch_size=8192, verbose=0)
            alone = n / (time.monotonic() - started)
            for suffix in ("csv", "parquet"):
                path = directory / f"rows.{suffix}"
                rows.to_csv(path, index=False) if suffix == "csv" else rows.to_parquet(path)
                seconds, peak = predict(path, home)
                print(
                    f"| {n:,} | {suffix} | {seconds:.1f} | {n / seconds:,.0f} | {peak:.0f} | {alone:,.0f} |", flush=True
                )
                path.unlink()


if __name__ == "__main__":
    main()
