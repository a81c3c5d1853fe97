"""The README and the pages of docs/: links and paths lead somewhere, and pages stay short.

A page may name files, config keys, commands and objectives. All of them exist, so a rename that
forgets a page fails here.
"""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from pydantic import BaseModel

from agent_rl.cli import app
from agent_rl.config import Config
from agent_rl.objective.presets import PRESETS
from tests.builders.paths import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md")), *sorted((DOCS / "results").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
GENERATED = ("configuration.md",)
"""Pages that are made from the code: as long as the code is."""

README_LINES = 120
PAGE_LINES = 200
LINE_LENGTH = 100

EXTENSIONS = ("py", "yaml", "json", "jsonl", "md", "toml", "lock", "png")
WRITTEN_BY_RUNS = ("train/", "sft/", "init/", "runs/", "evaluations/", "json_2.1.1/")
"""Beginnings of paths inside a run's folder or the data."""


def text_of(page: Path) -> str:
    return page.read_text()


def prose_of(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def code_of(page: Path) -> str:
    """All of a page that a shell or a config reads: its blocks that are not Python, and what stands
    between backticks.
    """
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE)
    shell = [block for language, block in blocks if language != "python"]
    return "\n".join([*shell, *re.findall(r"`([^`\n]+)`", prose_of(page))])


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"\s+", "-", words.strip()) for words in kept}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), f"{page.name}: {link}"
        if page != README:
            assert target.is_relative_to(DOCS), f"{page.name}: {link} is outside of the site"
        if anchor:
            assert anchor in anchors_of(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_exist(page: Path) -> None:
    # A path has a folder and one of the extensions, or is a folder at the top of the repository.
    pattern = rf"(?<![\w./$~<-])([\w.-]+/[\w./-]*\.(?:{'|'.join(EXTENSIONS)}))(?![\w*])"
    for name in set(re.findall(pattern, code_of(page))):
        if name.startswith(WRITTEN_BY_RUNS):
            continue
        places = [ROOT / name, ROOT / "tests/agent_rl" / name, page.parent / name]
        assert any(place.exists() for place in places), f"{page.name}: {name}"
    for folder in set(
        re.findall(
            r"(?<![\w./-])((?:docs|tests|configs|envs|agent_rl|rollouts)/[\w./-]*)", code_of(page)
        )
    ):
        assert (ROOT / folder.rstrip(".")).exists(), f"{page.name}: {folder}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_is_short(page: Path) -> None:
    lines = text_of(page).splitlines()
    if page.name not in GENERATED:
        assert len(lines) <= (README_LINES if page == README else PAGE_LINES)
    for line in lines:
        if not line.startswith(("|", "![")):  # tables and pictures cannot be wrapped
            assert len(line) <= LINE_LENGTH, line


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_says_what_it_is_for(page: Path) -> None:
    if page != README:
        title, empty, first, *_ = text_of(page).splitlines()
        assert title.startswith("# ")
        assert not empty
        assert first.startswith("You want to "), first


def section_keys(model: type[BaseModel], before: str = "") -> set[str]:
    """The dotted keys of a settings class, with those of its sections."""
    keys = set()
    for name, field in model.model_fields.items():
        keys.add(before + name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys |= section_keys(kind, f"{before}{name}.")
    return keys


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_config_keys_exist(page: Path) -> None:
    if page.name in GENERATED:
        return  # it also lists the old names of keys
    keys = section_keys(Config)
    sections = "|".join(sorted({key.partition(".")[0] for key in keys if "." in key}))
    for found in re.findall(
        rf"(?<![\w./-])((?:{sections})\.[a-z_.]+)(?=[:=\s'\"`,]|$)", code_of(page)
    ):
        key = found.rstrip(".")
        is_file = key.endswith((".py", ".yaml"))
        if not is_file and not key.startswith("env.options."):  # options are the environment's
            assert key in keys, f"{page.name}: {key}"


def command(words: list[str]) -> Any:
    """The command with that name, or the deepest one that it begins with."""
    found: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(found, "commands"):
            break
        assert word in found.commands, f"{word} is none of {', '.join(found.commands)}"
        found = found.commands[word]
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page: Path) -> None:
    for line in re.findall(r"^agent-rl +([a-z][^#\n]*)", code_of(page), re.MULTILINE):
        names = [word for word in line.split()[:2] if re.fullmatch(r"[a-z][a-z-]*", word)]
        options = {name for parameter in command(names).params for name in parameter.opts}
        for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", line):
            assert option in options, f"{page.name}: agent-rl {line}"


def test_the_readme_names_every_command() -> None:
    listed = re.findall(r"^agent-rl ([\w-]+)", text_of(README), re.MULTILINE)
    assert set(listed) == set(command([]).commands)
    for group, members in re.findall(
        r"^agent-rl (envs|games|bench) (.+?)  ", text_of(README), re.M
    ):
        named = {name.split()[0] for name in members.split("|")}
        assert named == set(command([group]).commands), group


def test_the_pages_name_every_objective() -> None:
    for page in (DOCS / "objectives.md", DOCS / "training.md"):
        for name in PRESETS:
            assert f"`{name}`" in text_of(page), f"{page.name}: {name}"


def test_every_page_is_in_the_start_page() -> None:
    start = text_of(DOCS / "index.md")
    for page in PAGES:
        if page not in (README, DOCS / "index.md"):
            assert f"({page.relative_to(DOCS)})" in start, page.name


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"^make ([a-z-]+)", code_of(page), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: {target}"


def test_the_code_names_pages_that_exist() -> None:
    folders = ("agent_rl", "envs", "rollouts", "tests", "configs")
    sources = [path for folder in folders for path in sorted((ROOT / folder).rglob("*"))]
    for path in [ROOT / "Makefile", *sources]:
        if path.suffix in ("", ".py", ".yaml") and path.is_file():
            for page in re.findall(r"docs/[\w/-]+\.md", path.read_text()):
                assert (ROOT / page).is_file(), f"{path.relative_to(ROOT)}: {page}"
