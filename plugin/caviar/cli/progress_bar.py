"""The command line's progress bar."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..commands.run import Progress

_FORMAT = "{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}<{remaining}{postfix}"


class ProgressBar:
    """A line on stderr for each study that runs: trials done, best so far, pruned, time left."""

    def __init__(self) -> None:
        self._study = ""
        self._bar: Any = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def show(self, progress: "Progress") -> None:
        """Show how far a run is; another study gets another line."""
        from tqdm import tqdm

        if progress.study != self._study:
            self._close()
        if self._bar is None:
            self._study = progress.study
            n, total, name = progress.done, progress.budget, progress.study
            self._bar = tqdm(total=total, initial=n, desc=name, dynamic_ncols=True, bar_format=_FORMAT)
        self._bar.total = progress.budget
        self._bar.update(progress.done - self._bar.n)
        best = "–" if progress.best_value is None else f"{progress.best_value:.4f}"
        failed = f", {progress.failed} failed" if progress.failed else ""
        self._bar.set_postfix_str(f"best {best}, {progress.pruned} pruned{failed}")

    def count(self, done: int, total: int) -> None:
        """Show how many of a race's trainings have ended, of how many there are at most."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=total, desc="race", unit="training", dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        """Print a line below the last study's."""
        self._close()
        click.echo(line, err=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
