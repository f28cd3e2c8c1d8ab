"""Check a home: its disks, storage, tracking and studies. Say what is wrong and what to do; mend what is safe."""

import dataclasses
from collections.abc import Sequence

from ..storage.addresses import masked
from ..storage.filesystems import Mounts
from ..storage.home import Home
from ..storage.opening import study_name
from .findings import Finding, Findings
from .stores import MIN_FREE_BYTES, check_disks, check_files, check_leftovers, check_storage, check_tracking
from .studies import check_study, read_studies


def examine(
    home: Home,
    study: str | None = None,
    *,
    fix: bool = False,
    mounts: Mounts | None = None,
    min_free_bytes: int = MIN_FREE_BYTES,
) -> list[Finding]:
    """Check a home and return what is not as it should be, the ground first.

    Without ``fix`` nothing is written, and no file that was not there is left. What is broken becomes a finding, even
    an unsound address (`address_home`). ``study`` is a name or a file to look at alone; by default all are looked at.
    ``mounts`` are this machine's by default. A disk with less than ``min_free_bytes`` counts as nearly full.

    Raises:
        SpecError: If ``study`` is a file that cannot be read.
    """
    name = None if study is None else study_name(study)
    found = Findings(fix=fix)
    check_disks(home, found, mounts=mounts, min_free_bytes=min_free_bytes)
    check_leftovers(home, found)
    has_files = check_files(home, found)
    readable = check_storage(home, name, found, mounts=mounts)
    tracked = check_tracking(home, name, found, mounts=mounts)
    if readable:
        for state in read_studies(home, name, found, has_files=has_files):
            check_study(home, state, found, tracked=tracked)
    return found.all


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Tell whether no problem is left."""
    return all(finding.fixed or finding.severity == "note" for finding in findings)


def doctor_report(findings: Sequence[Finding]) -> dict[str, object]:
    """Return the findings ready for JSON: ``healthy``, and ``findings`` with every attribute of each."""
    return {"healthy": is_healthy(findings), "findings": [dataclasses.asdict(finding) for finding in findings]}


def doctor_lines(findings: Sequence[Finding], home: Home) -> list[str]:
    """Return the findings in words, and a last line that sums up."""
    lines = []
    for finding in findings:
        lines.append(f"{'fixed' if finding.fixed else finding.severity}: {finding.subject}: {finding.message}")
        if not finding.fixed:
            lines.append(f"  {finding.remedy}")
    problems = [finding for finding in findings if finding.severity == "problem" and not finding.fixed]
    if problems:
        fixable = sum(finding.fixable for finding in problems)
        hint = f"; --fix mends {fixable} of them" if fixable else ""
        return [*lines, f"{len(problems)} problem{'' if len(problems) == 1 else 's'} left{hint}."]
    return [*lines, f"All is well with {masked(home.storage)} and {masked(home.tracking_uri)}."]
