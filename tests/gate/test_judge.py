"""Nothing passes unjudged."""

import asyncio

import pytest

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell, Verdict
from mutirao.gate.judge import weigh
from mutirao.gate.refusal import Refusal
from tests.gate.house import MarkerJudge


def cells(*codes: str) -> list[Cell]:
    return [Cell(code, "ana", "ana", "", "k") for code in codes]


@pytest.mark.parametrize(
    ("codes", "action"),
    [
        ([], Action.ALLOW),
        (["1", "2"], Action.ALLOW),
        (["1", "please warn", "2"], Action.WARN),
        (["please warn", "please stop"], Action.STOP),
        (["please hold", "please stop"], Action.HOLD),
    ],
)
async def test_the_weightiest_verdict_on_a_message_counts(codes, action):
    assert (await weigh(MarkerJudge(), cells(*codes), 1)).action is action


async def test_what_comes_after_a_cell_that_may_not_run_is_not_judged():
    judge = MarkerJudge()
    await weigh(judge, cells("please stop", "please break"), 1)
    assert judge.codes == ["please stop"]


@pytest.mark.parametrize("code", ["please break", "please doze"])
async def test_a_judge_that_fails_refuses_with_a_notice_without_a_case(code):
    verdict = await weigh(MarkerJudge(), cells("please warn", code), 0.05)
    assert verdict.action is Action.STOP
    assert verdict.notice is not None
    assert verdict.notice.case is None


async def test_a_judge_that_answers_nonsense_refuses():
    class Nonsense:
        async def judge(self, cell: Cell) -> Verdict:
            return True  # type: ignore[return-value]

    assert (await weigh(Nonsense(), cells("1"), 1)).action is Action.STOP


async def test_a_cancelled_judgement_is_not_a_verdict():
    task = asyncio.ensure_future(weigh(MarkerJudge(), cells("please doze"), 5))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("refusal", Refusal)
def test_each_refusal_speaks_both_languages(refusal):
    texts = refusal.notice.texts
    assert set(texts) == {"en", "pt-BR"}
    assert texts["en"].lead != texts["pt-BR"].lead
    assert all(text.title and text.lead and text.consequence and text.next_step for text in texts.values())
