"""Imports point down only, and what is meant to be pure opens no file, socket or database."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "mutirao"

LAYERS = (
    {"errors", "language", "origins", "bucket", "logs"},
    {"section", "process"},
    {"entrance", "fairness", "keeping", "offer"},
    {"config"},
    {"policy", "accounts", "certificate"},
    {"detect"},
    {"store"},
    {"cases", "share", "sandbox"},
    {"hub", "gate", "watch", "web", "reference", "part", "scan", "report", "reach"},
    {
        "cli_cases",
        "cli_detect",
        "supervisor",
        "lineup",
        "cli",
        "__main__",
        "operate",
        "instance",
        "upkeep",
        "backup",
        "restore",
        "upgrade",
        "hub_tables",
        "unit",
    },
)
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}

PURE = (
    "detect/**/*.py",
    "cases/decide.py",
    "cases/ladder.py",
    "cases/cause.py",
    "cases/link.py",
    "cases/role.py",
    "cases/letter.py",
    "policy/diff.py",
    "share/share.py",
)
FORBIDDEN_IN_PURE = {
    "socket", "sqlite3", "sqlalchemy", "subprocess", "asyncio", "aiohttp", "requests", "urllib", "http", "tempfile", "shutil",
}  # fmt: skip
LOADS_FILES = {"detect/pack.py"}
"""The one module of `detect` that may read files: it loads the rules."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            if node.module == "mutirao":
                yield from (f"mutirao.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    assert part in HEIGHT, f"{part} has no layer: add it to LAYERS"

    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "mutirao" or len(parts) == 1 or parts[1] in (part, "__version__"):
            continue
        target = parts[1]
        if target not in HEIGHT:
            continue
        same_layer = HEIGHT[target] == HEIGHT[part]
        assert HEIGHT[target] <= HEIGHT[part], f"{part} imports {name}, which lies above it"
        allowed_side = {("hub", "gate"), ("web", "hub"), ("hub", "part"), ("report", "scan")}
        allowed_side |= {("cli", "supervisor"), ("__main__", "cli"), ("supervisor", "upkeep"), ("supervisor", "unit")}
        allowed_side |= {("supervisor", "lineup"), ("lineup", "upkeep")}
        allowed_side |= {("cli", target) for target in ("cli_cases", "cli_detect", "operate", "instance", "upkeep")}
        allowed_side |= {("cli_cases", "instance")}
        allowed_side |= {
            ("operate", target) for target in ("instance", "upkeep", "backup", "restore", "upgrade", "unit")
        }
        allowed_side |= {("backup", "instance")}
        allowed_side |= {
            (copy, near) for copy in ("restore", "upgrade") for near in ("backup", "instance", "hub_tables")
        }
        assert not same_layer or (part, target) in allowed_side, f"{part} imports its neighbour {name}"


@pytest.mark.parametrize(
    "path", [path for pattern in PURE for path in sorted(SOURCE.glob(pattern))], ids=lambda path: path.name
)
def test_pure_code_touches_nothing(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in FORBIDDEN_IN_PURE, f"{path} imports {name}"
        assert not name.startswith("mutirao.store"), f"{path} imports {name}"
    if str(path.relative_to(SOURCE)) in LOADS_FILES:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in {"open", "read_text", "read_bytes", "write_text", "connect"}, f"{path}: {called}()"


def test_every_module_says_what_is_true() -> None:
    """A module without a docstring leaves its reader guessing."""
    silent = [str(path) for path in modules() if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None]  # fmt: skip

    assert silent == []
