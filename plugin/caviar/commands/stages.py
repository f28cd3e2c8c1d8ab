"""Running a study file with its stages: the study first, then each zoom into the stage before, in one go.

What a stage has reached stands in its study alone, so that the same command goes on after anything.
"""

import dataclasses
from collections.abc import Callable

from ..spec import StudySpec
from ..storage.home import Home
from ..storage.opening import open_existing
from .run import Progress, RunResult, deadline_of, result_lines, run_study
from .search_view import show_search
from .zoom import ZoomOutcome, zoom_stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagedResult:
    """What a run of a study file did.

    Attributes:
        first: The study itself.
        zooms: The stages that were run, were finished already or were not worth it, in their order.
    """

    first: RunResult
    zooms: tuple[ZoomOutcome, ...] = ()

    @property
    def runs(self) -> tuple[tuple[str, RunResult], ...]:
        """Every study that was run, by its name."""
        zooms = ((zoom.child, zoom.run) for zoom in self.zooms)
        return (
            (self.first.progress.study, self.first),
            *((name, run) for name, run in zooms if name is not None and run is not None),
        )

    @property
    def interrupted(self) -> bool:
        """Whether it was asked to stop."""
        return any(run.interrupted for _, run in self.runs)


def run_stages(
    spec: StudySpec,
    home: Home,
    *,
    source: str | None = None,
    fresh: bool = False,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    say: Callable[[str], None] = lambda _line: None,
) -> StagedResult:
    """Run a study and its stages until the last one's budget is spent, the time is up, or a signal ends it.

    A stage that is not worth its zoom is the last one; the result says why.

    Args:
        spec: The study file.
        home: Where it lives.
        source: The name or the file of a study that a new one starts from, or None; stages start from the one before.
        fresh: Whether a study of this name is archived, with its zooms, and a new one begun.
        on_progress: Called at the start of each stage and after every trial.
        say: Called with what is worth telling before a stage, line by line.

    Raises:
        CaviarError: If the study file, the data, the home or the storage is not fit to run.
    """
    deadline_s = deadline_of(spec)
    first = run_study(spec, home, source=source, fresh=fresh, on_progress=on_progress, deadline_s=deadline_s)
    zooms: list[ZoomOutcome] = []
    before, last = spec.name, first
    for stage in spec.search.stages:
        if last.interrupted or last.progress.done < last.progress.budget:
            break
        outcome = zoom_stage(
            home,
            before,
            keep=stage.keep,
            trials=stage.trials,
            on_progress=on_progress,
            say=say,
            deadline_s=deadline_s,
        )
        zooms.append(outcome)
        if outcome.child is None or outcome.run is None:
            break
        before, last = outcome.child, outcome.run
    if any(zoom.run is not None and zoom.run.finished_now for zoom in zooms):
        show_search(*open_existing(home, spec.name))
    return StagedResult(first=first, zooms=tuple(zooms))


def staged_lines(result: StagedResult) -> list[str]:
    """Return what a run of a study file has to say beside the study's status."""
    told = [(name, run) for name, run in result.runs if run.finished_now or run.interrupted or run.out_of_time]
    *earlier, (last_name, last) = told or result.runs[:1]
    lines = [line for name, run in earlier for line in result_lines(dataclasses.replace(run, mlflow_link=None), name)]
    lines += result_lines(last, last_name)  # its link shows the whole search
    lines += [f"No zoom into {zoom.parent!r}: {zoom.reason}" for zoom in result.zooms if zoom.child is None]
    return lines
