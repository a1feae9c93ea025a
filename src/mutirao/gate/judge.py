"""What the gate asks of others: a verdict on a cell, and who runs it."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.letter import Halted
from mutirao.cases.notice import Notice
from mutirao.errors import OverBudgetError, TooLongError
from mutirao.gate.refusal import Refusal
from mutirao.gate.route import Route

log = logging.getLogger(__name__)


class Judge(Protocol):
    """Whoever decides about cells, and records what it decided."""

    async def judge(self, cell: Cell) -> Verdict:
        """The verdict; whatever is raised counts as "not judged", and the cell is refused."""
        ...

    async def standing(self, actor: str | None, owner: str, halted: Halted) -> Notice | None:
        """The words for one who may not run code now, or on whose server nobody may; None for everybody else."""
        ...


class Actors(Protocol):
    """Whoever knows the users behind tokens and cookies."""

    async def resolve(self, request_headers: Mapping[str, str], query_token: str | None, route: Route) -> str | None:
        """The name of the user whose token or cookie the request carries, None where that is unknown."""
        ...


async def weigh(judge: Judge, cells: Iterable[Cell], timeout_s: float) -> Verdict:
    """The weightiest verdict on the cells of one message, all within `timeout_s`.

    The first cell that may not run decides. A judge that raises, answers nonsense or takes too long refuses the
    message with a notice that says so: nothing passes unjudged.
    """
    heaviest = Verdict(Action.ALLOW)
    try:
        async with asyncio.timeout(timeout_s):
            for cell in cells:
                # A message may carry hundreds of small pieces: others get their turn between two of them.
                await asyncio.sleep(0)
                verdict = await judge.judge(cell)
                if not isinstance(verdict, Verdict):
                    raise TypeError(f"the judge answered {verdict!r} instead of a Verdict")
                if not verdict.action.runs:
                    return verdict
                if heaviest.action is Action.ALLOW:
                    heaviest = verdict
    except TooLongError:
        return Verdict(Action.STOP, Refusal.TOO_LARGE.notice)
    except OverBudgetError as error:
        log.info("A cell was refused: %s", error)
        return Verdict(Action.STOP, Refusal.OVER_BUDGET.notice)
    except TimeoutError:
        log.error("A cell was refused: no verdict within %s s.", timeout_s)
        return Verdict(Action.STOP, Refusal.NOT_JUDGED.notice)
    except Exception:
        log.exception("A cell was refused: judging failed.")
        return Verdict(Action.STOP, Refusal.NOT_JUDGED.notice)
    return heaviest


async def standing(judge: Judge, actor: str | None, owner: str, halted: Halted, timeout_s: float) -> Notice | None:
    """The judge's words, None where it fails: their cells are refused all the same."""
    try:
        async with asyncio.timeout(timeout_s):
            return await judge.standing(actor, owner, halted)
    except Exception:
        log.exception("Whether %s may run code could not be found out.", actor or owner)
        return None
