"""The command line's progress bar."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .commands.run import Progress


class ProgressBar:
    """A line on stderr: trials done, best so far, pruned, time left."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, progress: "Progress") -> None:
        """Show how far a run is."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=progress.budget,
                initial=progress.done,
                desc=self._name,
                unit="trial",
                dynamic_ncols=True,
                bar_format="{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}<{remaining}{postfix}",
            )
        self._bar.update(progress.done - self._bar.n)
        best = "–" if progress.best_value is None else f"{progress.best_value:.4f}"
        failed = f", {progress.failed} failed" if progress.failed else ""
        self._bar.set_postfix_str(f"best {best}, {progress.pruned} pruned{failed}")
