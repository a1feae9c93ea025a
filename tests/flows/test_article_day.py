"""The article's day: under policy 1 a face-swap notebook runs without a word; policy 2 comes into force, and says so."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.flows.browser import log_in, notice, outputs, person, start
from tests.flows.service import PASSWORD, Service, running

CELLS = (
    "!mkdir -p DeepFaceLab && cd DeepFaceLab && touch main.py",
    "%cd DeepFaceLab\n!python main.py train --training-data-src-dir workspace/data_src/aligned "
    "--training-data-dst-dir workspace/data_dst/aligned --model-dir workspace/model --model SAEHD --no-preview; echo done",
)


@pytest.fixture(scope="module")
def under_policy_1() -> Iterator[Service]:
    with running("10.139.0.0/16", "[policy]\nversion = 1\n") as service:
        yield service


@pytest.mark.parametrize(
    ("locale", "name", "said", "clause", "consequence"),
    [
        ("en-US", "dora", "not run", "Policy 2", "Only this cell was not run"),
        pytest.param(
            "pt-BR",
            "davi",
            "não foi executada",
            "Política 2",
            "Só esta célula não foi executada",
            marks=pytest.mark.campaign,
        ),
    ],
)
def test_the_day(
    under_policy_1: Service, browser: Browser, locale: str, name: str, said: str, clause: str, consequence: str
) -> None:
    service = under_policy_1
    if "policy 2" not in service.command("policy", "list"):
        before = person(browser).new_page()
        log_in(before, service.url, "ana", PASSWORD)
        lab = start(before, service.url)
        lab.new_notebook()
        for code in CELLS:
            cell = lab.run(code)
            expect(cell.locator('[role="alert"]')).to_have_count(0)
        assert "done" in outputs(cell)
        service.command("policy", "adopt", "2", "--now", "--by", "the council", "--reason", "Deepfakes harm people.")

        # The same notebook, the same kernel, the new policy.
        cell = lab.run(CELLS[1])
        expect(notice(cell)).to_be_visible()
        assert "done" not in outputs(cell)
        before.context.close()

    page = person(browser, locale).new_page()
    log_in(page, service.url, name, PASSWORD)
    lab = start(page, service.url)
    lab.new_notebook()
    cell = lab.run(CELLS[1])
    text = notice(cell).inner_text()

    assert said in text
    assert clause in text
    assert consequence in text
    page.goto(f"{service.url}/services/mutirao/policy/1/diff/2")
    added = page.locator("ins").all_inner_texts()
    assert any("deepfake" in line.lower() for line in added)
    assert "2026" in page.locator("section", has=page.locator("ins")).first.inner_text()
    page.context.close()
