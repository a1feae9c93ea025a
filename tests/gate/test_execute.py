"""Cells that come by HTTP (jupyter-server-nbmodel)."""

import json
from http.cookies import SimpleCookie

import nbformat
import pytest

from mutirao.gate.outcome import MOST_OF_A_MEMBER
from tests.gate.house import TOKEN

AUTH = {"Authorization": f"token {TOKEN}"}


async def post(street, body: object, action: str = "execute", headers: dict | None = None, method: str = "POST"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = AUTH if headers is None else headers
    async with street.http.request(method, street.url(f"api/kernels/k-1/{action}"), data=data, headers=headers) as got:
        return got.status, await got.json(), got.headers


async def test_an_allowed_cell_passes_with_its_body_untouched(street, twin):
    body = b'{ "code" : "\\u0031", "metadata": {"cell_id": "x"} }'
    status, answer, headers = await post(street, body)
    assert (status, answer, headers["X-From"]) == (202, {"ok": True}, "the server")
    probe, sent = twin.requests
    assert (probe.method, probe.raw_path, probe.body) == ("GET", "/user/ana/api/kernels/k-1", b"")
    assert (sent.method, sent.body) == ("POST", body)
    (cell,) = street.judge.saw
    assert (cell.code, cell.via, cell.kernel, cell.actor) == ("1", "execute", "k-1", "ana")


async def outcome(street, accepted: dict, headers: dict | None = None) -> tuple[int, dict]:
    """What the address in a 202 answers."""
    url = street.url(accepted["request_url"].removeprefix("/"))
    async with street.http.get(url, headers=AUTH if headers is None else headers) as got:
        return got.status, await got.json()


@pytest.mark.parametrize("word", ["stop", "hold"])
async def test_a_cell_that_is_not_run_has_the_notice_as_its_output(street, twin, word):
    status, accepted, headers = await post(street, {"code": f"please {word}", "metadata": {"cell_id": "c"}})
    assert (status, accepted["cell_id"], headers["Location"]) == (202, "c", accepted["request_url"])
    status, answer = await outcome(street, accepted)
    assert (status, answer["status"], answer["reason"], answer["case"]) == (200, "error", "NotRun", "M-2026-000007")
    shown, error = (nbformat.from_dict(output) for output in json.loads(answer["outputs"]))
    cell = nbformat.v4.new_code_cell(outputs=[shown, error])
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))
    assert "/services/mutirao/case/M-2026-000007" in shown["data"]["text/plain"]
    assert error["ename"] == "NotRun"
    assert [request.method for request in twin.requests] == ["GET", "GET"]


async def test_an_outcome_is_told_only_to_whom_the_server_accepts_and_the_oldest_go(street, twin):
    _, first, _ = await post(street, {"code": "please stop"})
    assert await outcome(street, first, {}) == (403, {"message": "Forbidden"})
    for _ in range(MOST_OF_A_MEMBER):
        await post(street, {"code": "please stop"})
    # What the gate does not have is the server's to answer.
    assert await outcome(street, first) == (200, {"ok": True})


async def test_a_warned_cell_runs_and_names_its_case(street, twin):
    status, _, headers = await post(street, {"code": "please warn"})
    assert (status, headers["Mutirao-Case"]) == (202, "M-2026-000007")
    assert twin.requests[-1].method == "POST"


async def test_an_answer_to_stdin_is_judged(street, twin):
    assert (await post(street, {"input": "please stop"}, "input"))[0] == 403
    assert (await post(street, {"input": "ana"}, "input"))[0] == 202
    assert [cell.via for cell in street.judge.saw] == ["input_reply", "input_reply"]


@pytest.mark.parametrize("word", ["break", "doze"])
async def test_a_cell_that_cannot_be_judged_is_refused(street, twin, word):
    status, accepted, _ = await post(street, {"code": f"please {word}"})
    assert status == 202
    status, answer = await outcome(street, accepted)
    assert (answer["status"], answer["case"]) == ("error", None)
    assert "could not be checked" in answer["outputs"]


UNREADABLE = {
    "no source": ({}, 400, "'code'"),
    "a document's cell instead of source": ({"metadata": {"document_id": "d", "cell_id": "c"}}, 400, "'code'"),
    "source is null": ({"code": None}, 400, "'code'"),
    "source is a list": ({"code": ["a"]}, 400, "'code'"),
    "a list": ([], 400, "'code'"),
    "empty": (b"", 400, "broken"),
    "not JSON": (b"code=1", 400, "broken"),
    "source twice": (b'{"code": "1", "code": "please stop"}', 400, "twice"),
    "UTF-16": ('{"code": "1"}'.encode("utf-16"), 400, "UTF-8"),
    "too large": ({"code": "#" * 200_000}, 413, "too large"),
}


@pytest.mark.parametrize(("body", "status", "says"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_body_without_readable_source_is_refused_with_a_notice(street, twin, body, status, says, method):
    got, answer, _ = await post(street, body, method=method)
    assert got == status
    assert says in answer["message"]
    assert "Not run" in answer["notice"]
    assert [request.method for request in twin.requests] == ["GET"], "only the question whether this person may"
    assert street.judge.saw == []


async def test_a_compressed_body_is_refused(street, twin):
    assert (await post(street, b"\x1f\x8b", headers={**AUTH, "Content-Encoding": "gzip"}))[0] == 400
    assert [request.method for request in twin.requests] == ["GET"]


async def test_the_body_of_a_stranger_is_not_read(street, twin):
    status, _, headers = await post(street, b"x" * 100_001, headers={})
    assert (status, headers["X-From"]) == (403, "the server")


async def test_a_stranger_gets_the_servers_refusal_and_no_case_for_the_member(street, twin):
    status, answer, headers = await post(street, {"code": "please stop"}, headers={})
    assert (status, answer, headers["X-From"]) == (403, {"message": "Forbidden"}, "the server")
    assert street.judge.saw == []
    assert street.actors.asked == []


async def test_another_sites_page_cannot_frame_a_member_with_their_cookie(street, twin):
    cookie = {"Cookie": SimpleCookie({"session": "good"}).output(header="").strip()}
    status, _, _ = await post(street, {"code": "please stop"}, headers={**cookie, "Origin": "https://evil.example"})
    assert status == 403
    assert street.judge.saw == []
    same = street.chp.url
    assert (await post(street, {"code": "1"}, headers={**cookie, "Origin": same}))[0] == 202


async def test_a_get_of_the_active_executions_passes(street, twin):
    async with street.http.get(street.url("api/kernels/k-1/execute"), headers=AUTH) as answer:
        assert answer.status == 200
    assert street.judge.saw == []


async def test_a_trailing_slash_hides_nothing(street, twin):
    await post(street, {"code": "please stop"}, "execute/")
    assert [request.method for request in twin.requests] == ["GET"]
