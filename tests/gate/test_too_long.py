"""A cell too long to be judged is refused in its own words, and a judge's timeout in others."""

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell, Verdict
from mutirao.errors import TooLongError
from mutirao.gate.judge import weigh
from mutirao.gate.refusal import Refusal


class Overwhelmed:
    """A judge who can't read that much."""

    async def judge(self, cell: Cell) -> Verdict:
        raise TooLongError("too long")


async def test_the_member_hears_to_put_data_into_a_file() -> None:
    verdict = await weigh(Overwhelmed(), [Cell("x", "ana", "ana", "", "k")], 5)

    assert verdict == Verdict(Action.STOP, Refusal.TOO_LARGE.notice)
    assert "upload it as a file" in Refusal.TOO_LARGE.notice.text("en").next_step
