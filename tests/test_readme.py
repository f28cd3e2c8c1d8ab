"""README is true: its commands run and print what it says they print, and it keeps to its order and length.

The commands of README and docs/zoom.md run word for word, in their order, in a scratch directory. Only two things are
made quicker there: ``QUICK`` shortens the study file, and ``QUICK_TRIALS`` lowers the budget that README raises it to.
The commands of the other pages are checked by test_docs.py, which parses them.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence

import pytest

from .documents import PAGES, ROOT, Command, blocks, commands
from .processes import running_here

README = PAGES["README.md"]
QUICK = {"trials = 200": "trials = 12", "epochs = 20": "epochs = 3", "workers = 2": "workers = 1"}
QUICK_TRIALS = ("--trials 210", "--trials 14")
RUN = ("README.md", "docs/zoom.md")
SECTIONS = [
    *(
        "Two commands",
        "Fit and predict",
        "One study, end to end",
        "In Python",
        "Resuming",
        "Many machines",
        "Limits",
        "Other tuners",
    ),
    "More",
]


def test_readme_is_short_and_in_its_order() -> None:
    assert re.findall(r"^## (.*)$", README, flags=re.MULTILINE) == SECTIONS
    assert len(README.split()) <= 1200
    assert [line for line in README.splitlines() if len(line) > 120] == []
    before_library_use = README.partition("\n## Fit and predict\n")[0]
    assert len(before_library_use.split()) < len(README.split()) / 2


def test_the_study_shown_is_the_default_study() -> None:
    (shown,) = blocks("README.md", "toml")
    assert tomllib.loads(shown) == tomllib.loads((ROOT / "studies" / "digits.toml").read_text(encoding="utf-8"))


def test_readme_shows_a_picture_of_the_report_and_of_both_dashboards() -> None:
    shown = re.findall(r'<img src="([^"]+)" alt="[^"]+"', README)
    assert shown == [f"docs/images/{name}.png" for name in ("report", "optuna-dashboard", "mlflow")]
    for path in (ROOT / picture for picture in shown):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 250_000


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[Command, str]:
    """Run the commands in their order, each page's in a directory of its own; return what each printed."""
    printed = {}
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith(("CAVIAR_", "MLFLOW_"))]:
            patch.delenv(variable)
        for page in RUN:
            directory = tmp_path_factory.mktemp("page")
            shutil.copytree(ROOT / "studies", directory / "studies")
            study = directory / "studies" / "digits.toml"
            study.write_text(_replaced(study.read_text(encoding="utf-8"), QUICK), encoding="utf-8")
            patch.chdir(directory)
            for command in commands(page):
                quick = dataclasses.replace(command, line=command.line.replace(*QUICK_TRIALS))
                program, *arguments = quick.words
                assert program == "caviar"
                with running_here(*arguments) as run:
                    ended = run.finish()
                assert ended.exit_code == 0, f"{command}: {ended.stderr}"
                printed[command] = ended.stderr.replace("\r", "\n") + ended.stdout
    return printed


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for page in RUN for command in commands(page)], ids=str)
def test_a_command_prints_what_the_page_says(command: Command, ran: dict[Command, str]) -> None:
    missing = first_missing(command.output, ran[command].splitlines())
    assert missing is None, f"{missing!r} is not printed, or not at this place, in:\n{ran[command]}"


def test_readme_shows_what_each_of_its_commands_prints() -> None:
    assert len(commands("README.md")) >= 4
    assert [command for command in commands("README.md") if not command.output] == []


@pytest.mark.parametrize(
    ("printed", "real", "same"),
    [
        ("digits: 200 of 200 trials done (3 complete)", "digits: 6 of 6 trials done (2 complete, 4 pruned)", True),
        ("  batch_norm = none", "  batch_norm = after_activation", True),
        ("  batch_norm = none", "  momentum = 0.9", False),
        ("storage sqlite:////home/ann/runs/optuna.db", "storage sqlite:////tmp/b/runs/optuna.db", True),
        ("storage sqlite:////home/ann/runs/optuna.db", "storage sqlite:////tmp/b/optuna.db", False),
        ("best val_accuracy 0.9, trial 1:", "best val_loss 0.9, trial 1:", False),
        ("Compare the runs: …", "Compare them: http://127.0.0.1:5000", False),
    ],
)
def test_a_line_s_shape_leaves_numbers_choices_and_directories_open(printed: str, real: str, same: bool) -> None:
    assert (shape(printed) == shape(real)) is same


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_every_make_target_shown_exists_and_help_lists_it() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    shown = {
        target for text in PAGES.values() for target in re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)
    }
    assert {"study", "test", "dashboard", "mlflow", "help"} <= shown
    assert [target for target in sorted(shown - {"help"}) if f"make {target} " not in listed] == []


def first_missing(printed: Sequence[str], real: Sequence[str]) -> str | None:
    """Return the first printed line that really does not follow the one before; a line ``…`` stands for any lines.

    What comes before the first printed line is left open, as the progress bar is.
    """
    place, is_open = 0, True
    for line in printed:
        if line.strip() == "…":
            is_open = True
            continue
        ahead = [shape(other) for other in (real[place:] if is_open else real[place : place + 1])]
        if shape(line) not in ahead:
            return line
        place, is_open = place + ahead.index(shape(line)) + 1, False
    return None if is_open or place == len(real) else f"the end after {printed[-1]!r}"


@pytest.mark.parametrize(
    ("printed", "missing"),
    [
        (["a", "b", "c"], None),
        (["b", "c"], None),
        (["a", "…", "c"], None),
        (["a", "…"], None),
        (["a", "c"], "c"),
        (["b", "a"], "a"),
        (["b", "…", "a"], "a"),
        (["a", "b"], "the end after 'b'"),
    ],
)
def test_a_line_must_follow_the_one_before_but_for_an_ellipsis(printed: list[str], missing: str | None) -> None:
    assert first_missing(printed, ["a", "b", "c"]) == missing


def shape(line: str) -> str:
    """Return what of a printed line is the same in every run: no numbers, choices, directories or counts by state."""
    line = re.sub(r"/\S*/(?=runs/)", "/", line.rstrip())
    line = re.sub(r"^(Compare the runs: `make mlflow`, then ).*", r"\1", line)
    line = re.sub(r"\((\d+ \w+)(, \d+ \w+)*\)", "(states)", line)
    line = re.sub(r"^(  \w+ = ).*", r"\1", line)
    line = re.sub(r"^\d+\. \w.*", "advice", line)
    line = re.sub(r"^   \w.*", "what to change", line)
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", line)


def _replaced(text: str, replacements: dict[str, str]) -> str:
    for old, new in replacements.items():
        assert text.count(old) == 1, f"{old!r} must occur once in:\n{text}"
        text = text.replace(old, new)
    return text
