"""Pure: code in, findings out. Opens no socket and no database."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutirao.detect.engine import Engine
    from mutirao.detect.finding import Finding


def scan(code: str, language: str = "python") -> tuple["Finding", ...]:
    """The findings of the shipped rules about one cell, gravest first. Raises TooLongError for what can't be judged."""
    return _engine().scan(code, language)


@cache
def _engine() -> "Engine":
    from mutirao.detect.engine import Engine
    from mutirao.detect.pack import default_pack

    return Engine(default_pack())
