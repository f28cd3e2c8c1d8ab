"""The pages of docs/ and README name only what exists, and leave no command and no key out."""

import contextlib
import dataclasses
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from caviar import KerasObjective
from caviar.cli import main
from caviar.config import CHOICES, NetworkConfig, TrainingConfig
from caviar.metrics import METRICS
from caviar.sampler_table import SAMPLERS
from caviar.space import HYPERPARAMETERS
from caviar.spec import PRUNERS, DataSpec, ObjectiveSpec, SearchSpec, parse_spec

from .documents import PAGES, ROOT, Command, anchors, blocks, commands, indented_commands, inline_code, links

COMMAND_LINE = "docs/command-line.md"
STUDY_FILE = "docs/study-file.md"
#: Every page but the list of changes, which also names what is gone.
GUIDES = [page for page in PAGES if page != "CHANGELOG.md"]
WHOLE_PROGRAMS = [
    pytest.param(code, id=f"{page}-{number}")
    for page in GUIDES
    for number, code in enumerate(blocks(page, "python"))
    if code.startswith(("import", "from"))
]


def verbs(group: click.Group = main, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from verbs(command, f"{prefix}{name} ")


VERBS = dict(verbs())
SHOWN = [
    *(command for page in GUIDES for command in (*commands(page), *indented_commands(page))),
    *(
        Command(page=f"caviar {verb} --help", line=line, output=())
        for verb, command in VERBS.items()
        for line in re.findall(r"^ *(caviar .*)$", command.help or "", flags=re.MULTILINE)
    ),
]


def verb_of(words: list[str]) -> str | None:
    """Return the verb that the words after ``caviar`` begin with, the longest one."""
    return next(
        (verb for verb in sorted(VERBS, key=len, reverse=True) if words[: verb.count(" ") + 1] == verb.split()), None
    )


def options_of(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


def test_there_are_programs_and_commands_to_check() -> None:
    assert len(WHOLE_PROGRAMS) >= 4
    assert len(SHOWN) >= len(VERBS)


@pytest.mark.parametrize("command", SHOWN, ids=str)
def test_a_command_shown_is_one_that_caviar_takes(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fashion-mnist-files").mkdir()
    program, *words = command.words
    verb = verb_of(words)
    assert program == "caviar"
    assert verb is not None
    with contextlib.closing(VERBS[verb].make_context(verb, words[verb.count(" ") + 1 :])) as context:
        assert context.args == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_every_option_of_it_is_explained_with_an_example(verb: str) -> None:
    examples = [command for command in commands(COMMAND_LINE) if verb_of(command.words[1:]) == verb]
    assert examples, f"{COMMAND_LINE} has no example of caviar {verb}"
    assert f"\n### {verb}\n" in PAGES[COMMAND_LINE]
    section = PAGES[COMMAND_LINE].split(f"\n### {verb}\n")[1].split("\n## ")[0].split("\n### ")[0]
    head = PAGES[COMMAND_LINE].split("\n## ")[0]
    explained = head + re.sub(r"^```.*?^```$", "", section, flags=re.DOTALL | re.MULTILINE)
    assert [option for option in options_of(VERBS[verb]) if f"`{option}" not in explained] == []


@pytest.mark.parametrize("page", GUIDES)
def test_verbs_and_options_named_in_a_sentence_exist(page: str) -> None:
    known = {option for command in VERBS.values() for option in options_of(command)} | {"--help"}
    programs = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").rglob("*.py"))
    for code in inline_code(page):
        words = code.split()
        if words[0] == "caviar" and len(words) > 1 and words[1].islower() and not words[1].startswith("-"):
            verb = verb_of(words[1:])
            assert verb is not None, code
            named = {word for word in words if word.startswith("--")}
            assert named <= options_of(VERBS[verb]) | {"--help"}, code
        elif words[0].startswith("--"):
            unknown = [word for word in words if word.startswith("--") and word not in known]
            assert [word for word in unknown if f'"{word}"' not in programs] == [], code


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), link


def test_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links("README.md")}
    assert {page for page in PAGES if page != "README.md"} <= linked


@pytest.mark.parametrize("page", GUIDES)
def test_every_file_module_and_attribute_of_ours_that_is_named_exists(page: str) -> None:
    places = ("plugin", "tests", "benchmarks", "docs")
    files = [f"/{path.relative_to(ROOT)}" for place in places for path in (ROOT / place).rglob("*.py")]
    attributes = (ROOT / "plugin" / "caviar" / "attributes.py").read_text(encoding="utf-8")
    for word in (word for code in inline_code(page) for word in code.split()):
        if re.fullmatch(r"[\w/]+\.py", word):
            assert any(file.endswith(f"/{word}") for file in files), word
        elif module := re.fullmatch(r"benchmarks\.(\w+)", word):
            assert f"/benchmarks/{module[1]}.py" in files, word
        elif re.fullmatch(r"caviar:\w+", word):
            assert f'"{word}"' in attributes, word


def test_the_picture_of_the_house_has_every_room() -> None:
    (picture,) = blocks("docs/architecture.md", "text")
    package = ROOT / "plugin" / "caviar"
    rooms = [f"{path.parent.name}/" for path in package.glob("*/__init__.py")]
    modules = [path.name for path in package.glob("*.py") if not path.name.startswith("__")]
    assert [name for name in (*rooms, *modules) if not re.search(rf"(?<!\w){re.escape(name)}", picture)] == []


@pytest.mark.parametrize("page", GUIDES)
def test_every_study_file_shown_is_a_valid_one(page: str) -> None:
    for block in blocks(page, "toml"):
        parse_spec(tomllib.loads(block))


@pytest.mark.parametrize("page", GUIDES)
def test_every_key_of_the_study_file_that_is_named_exists(page: str) -> None:
    for code in inline_code(page):
        if key := re.fullmatch(r"((?:data|objective|search)\.(?!py$)\w+)( = .*)?", code):
            assert key[1] in spec_defaults(), code


def test_the_reference_has_every_key_with_its_default() -> None:
    rows = {cells[0].strip("`"): cells for cells in table_rows(STUDY_FILE) if re.match(r"`(\w+\.)?\w+`$", cells[0])}
    for key, default in spec_defaults().items():
        assert key in rows
        _, kind, shown, meaning = rows[key]
        assert (kind, bool(meaning)) == (KINDS[type(default)] if default is not None else kind, True), key
        if default is not None:
            assert tomllib.loads(f"x = {shown.strip('`')}")["x"] == default, key
        else:
            assert shown in {"required", "none", "found out"}, key


def test_the_reference_has_every_hyperparameter_with_its_default_and_choices() -> None:
    rows = {cells[0].strip("`"): cells for cells in table_rows(STUDY_FILE) if len(cells) == 3}
    defaults = {**dataclasses.asdict(NetworkConfig()), **dataclasses.asdict(TrainingConfig()), "units_per_layer": False}
    for name in (*HYPERPARAMETERS, "units_per_layer"):
        assert tomllib.loads(f"x = {rows[name][1].strip('`')}")["x"] == defaults[name], name
        assert [choice for choice in CHOICES.get(name, ()) if f"`{choice}`" not in rows[name][2]] == [], name


def test_the_reference_has_every_sampler_pruner_and_metric() -> None:
    code = {word for cells in table_rows(STUDY_FILE) for cell in cells for word in re.findall(r"`([^`]+)`", cell)}
    assert {*SAMPLERS, *PRUNERS, *METRICS} - code == set()


def test_the_page_on_python_has_every_argument_of_the_objective() -> None:
    (shown,) = [code for code in inline_code("docs/python.md") if code.startswith("KerasObjective(dataset")]
    real = [str(parameter).split(":")[0] for parameter in inspect.signature(KerasObjective).parameters.values()]
    assert [
        re.split(r"[=:]", part)[0].strip() for part in shown[len("KerasObjective(") : -1].split(", ") if part != "*"
    ] == real
    explained = {word for cells in table_rows("docs/python.md") for word in re.findall(r"`(\w+)`", cells[0])}
    assert set(real) <= explained


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, when it saves a model
@pytest.mark.parametrize("code", WHOLE_PROGRAMS)
def test_a_program_shown_runs_and_leaves_nothing_behind_but_what_it_saves(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "shown"})
    saved = set(re.findall(r'save\("([^"]+)"\)', code))
    assert {path.name for path in tmp_path.iterdir()} == saved


KINDS = {str: "text", int: "whole number", float: "number", dict: "table"}


def spec_defaults() -> dict[str, Any]:
    """Return every key of a study file but those of its space, with its default; None where there is none."""
    found: dict[str, Any] = {"name": None, "seed": 0}
    for section, kind in (("data", DataSpec), ("objective", ObjectiveSpec), ("search", SearchSpec)):
        for field in dataclasses.fields(kind):
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            found[f"{section}.{field.name}"] = None if default is dataclasses.MISSING else default
    return found


def table_rows(page: str) -> list[list[str]]:
    lines = [line for line in PAGES[page].splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
