"""My page: runtime, notices, and all that is recorded about me, to take along."""

from mutirao.policy.category import Category
from mutirao.web.app import PREFIX
from mutirao.web.hub import Runtime
from tests.web.twin import START, House, finding


async def test_my_runtime_is_shown_with_its_choice_and_ways_out(house: House) -> None:
    house.hub.servers["ana"] = (Runtime("", "/user/ana/", True, START, "ml", "medium"),)
    async with house.browser("ana") as browser:
        text = (await browser.get(f"{PREFIX}me")).text
    for shown in ('href="/user/ana/"', "ml", "medium", "running", 'href="/hub/home"', START.isoformat()):
        assert shown in text


async def test_without_a_runtime_there_is_a_way_to_start_one(house: House) -> None:
    async with house.browser("ana") as browser:
        assert "Nothing is running." in (await browser.get(f"{PREFIX}me")).text


async def test_my_page_shows_my_cases_and_nobody_elses(house: House) -> None:
    mine = await house.case(finding(Category.MINING))
    theirs = await house.case(finding(Category.DOS), member="bia", owner="bia")
    async with house.browser("ana") as browser:
        text = (await browser.get(f"{PREFIX}me")).text
        record = (await browser.get(f"{PREFIX}me/record.json")).text
        api = (await browser.get(f"{PREFIX}api/me")).json()
    assert mine in text
    assert mine in record
    assert theirs not in text + record
    assert [case["number"] for case in api["cases"]] == [mine]
    assert [notice["case"] for notice in api["notices"]] == [mine]


async def test_an_operators_own_page_is_their_own(house: House) -> None:
    number = await house.case()
    async with house.browser("olga") as browser:
        assert number not in (await browser.get(f"{PREFIX}me")).text


async def test_the_record_names_every_table_and_is_a_download(house: House) -> None:
    await house.case()
    async with house.browser("ana") as browser:
        answer = await browser.get(f"{PREFIX}me/record.json")
        page = (await browser.get(f"{PREFIX}me", params={"lang": "en"})).text
        api = (await browser.get(f"{PREFIX}api/me/record")).json()
    record = answer.json()
    assert answer.headers["content-disposition"] == 'attachment; filename="mutirao-record.json"'
    assert record == api
    for table in ("cases", "observations", "decisions", "notices", "audit"):
        assert len(record[table]) >= 1
    for label in ("Cases (1)", "Observations (1)", "Decisions (1)", "Notices (1)", "Permits (0)", "Exemptions (0)"):
        assert label in page


async def test_every_table_of_the_record_has_its_name_on_the_page(house: House) -> None:
    """A table that the store adds to the record must be shown too."""
    async with house.browser("ana") as browser:
        record = (await browser.get(f"{PREFIX}me/record.json")).json()
        page = (await browser.get(f"{PREFIX}me")).text
    assert page.count('<details class="mu-more">') == len([key for key in record if key != "member"])
