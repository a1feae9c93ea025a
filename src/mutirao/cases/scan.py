"""Who reads cells for the desk: a scanner gives a cell's findings, and may let its author wait."""

import asyncio
from typing import Protocol

from mutirao.cases.cell import Cell
from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding

SMALL_CHARACTERS = 2_048
"""Cells up to this length are read at once; longer ones elsewhere, so that others need not wait."""


class Scanner(Protocol):
    """Reads cells by the rules."""

    async def scan(self, cell: Cell) -> tuple[Finding, ...]:
        """The findings, gravest first; raises where the cell can't be read, and never guesses."""
        ...


class InThreads:
    """Reads long cells in a thread of this process: for tests, and where one person sits before it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def scan(self, cell: Cell) -> tuple[Finding, ...]:
        """The findings of the engine."""
        if len(cell.code) <= SMALL_CHARACTERS:
            return self._engine.scan(cell.code, cell.language)
        return await asyncio.to_thread(self._engine.scan, cell.code, cell.language)
