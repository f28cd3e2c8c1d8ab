"""One long trial, its worker killed twice with SIGKILL, against the same trial left in peace.

Run from the project's root: ``python -m benchmarks.continued_trial docs/continued_trial.svg`` (a minute on 2 cores).
Draws both curves, and prints how far they are apart at most.
"""

import argparse
import contextlib
import os
import re
import signal
import tempfile
from pathlib import Path

import matplotlib as mpl
from tests.processes import Watch, running, wait_until

EPOCHS, KILLS = 40, (12, 27)
STUDY = f"""# One trial on the digits, with a checkpoint after every epoch.
name = "toy"
seed = 3
[data]
dataset = "digits"
[objective]
epochs = {EPOCHS}
[search]
trials = 1
sampler = "random"
pruner = "none"
lease_s = 1
checkpoint_s = 0
[space]
learning_rate = 0.01
momentum = 0.9
depth = 3
units = 64
dropout = 0.3
batch_norm = {{ choices = ["before_activation"] }}
"""
Curves = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path, help="the SVG to be written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "toy.toml"
        file.write_text(STUDY)
        straight, _ = run(file, Path(directory) / "straight", kills=())
        continued, killed_at = run(file, Path(directory) / "continued", kills=KILLS)
    apart = max(abs(a - b) for name in straight for a, b in zip(straight[name], continued[name], strict=True))
    print(f"killed after epochs {killed_at}; the curves are at most {apart:g} apart")
    draw(straight, continued, killed_at, arguments.picture)


def run(file: Path, home: Path, *, kills: tuple[int, ...]) -> tuple[Curves, list[int]]:
    """Run the trial, and kill its worker when it has reported so many epochs."""
    watch, killed_at = Watch(home), []
    with running("run", file, "--home", home) as process:
        for kill in kills:
            wait_until(lambda kill=kill: watch.reported() >= kill and len(watch.holders()) > 0)  # type: ignore[misc]
            with contextlib.suppress(ProcessLookupError):
                os.kill(next(iter(watch.holders().values())), signal.SIGKILL)
                killed_at.append(watch.reported())
        ended = process.finish()
    assert ended.exit_code == 0, ended.stderr
    (trial,) = watch.trials()
    assert list(trial.intermediate_values) == list(range(EPOCHS))
    return trial.user_attrs["curves"], killed_at


def draw(straight: Curves, continued: Curves, killed_at: list[int], picture: Path) -> None:
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "caviar"  # the same picture has the same bytes
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for panel, name in zip(panels, ("val_accuracy", "val_loss"), strict=True):
        panel.plot(straight[name], color="#9ecae1", linewidth=5, label="uninterrupted")
        panel.plot(continued[name], color="#08306b", linewidth=1.2, label="killed and continued")
        for number, epoch in enumerate(killed_at):
            panel.axvline(epoch - 0.5, color="#d95f02", linestyle="--", label=None if number else "SIGKILL")
        panel.set(xlabel="epoch", ylabel=f"{name} (nats)" if name == "val_loss" else name)
        panel.grid(alpha=0.3)
    panels[0].legend(loc="lower right")
    figure.savefig(picture, metadata={"Date": None})
    picture.write_text(re.sub(r"[ \t]+$", "", picture.read_text(), flags=re.MULTILINE))


if __name__ == "__main__":
    main()
