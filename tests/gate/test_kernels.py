"""A real kernel behind the real proxy and the gate."""

import asyncio
import contextlib

import pytest

from tests.gate.house import TOKEN, V1, execute, kinds, one, request_of


async def test_an_allowed_cell_runs_and_answers_as_without_a_gate(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        answers = await tab.run("1 + 1")
    assert one(answers, "execute_result")["data"]["text/plain"] == "2"
    assert one(answers, "execute_reply")["status"] == "ok"
    assert home.judge.codes == ["1 + 1"]
    (cell,) = home.judge.saw
    assert (cell.owner, cell.server, cell.actor, cell.kernel, cell.via) == ("ana", "", "ana", kernel, "execute_request")


@pytest.mark.parametrize("word", ["stop", "hold"])
async def test_a_cell_that_is_not_run_gets_busy_notice_error_reply_and_idle(home, wire, word):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        first = one(await tab.run("x = 1"), "execute_reply")["execution_count"]
        answers = await tab.run(f"x = 2  # please {word}")
        after = await tab.run("x")
    assert kinds(answers) == ["status busy", "display_data", "error", "execute_reply", "status idle"]
    reply = one(answers, "execute_reply")
    assert (reply["status"], reply["ename"], reply["execution_count"]) == ("error", "NotRun", first)
    assert 2 <= len(reply["traceback"]) <= 4
    assert "/services/mutirao/case/M-2026-000007" in reply["traceback"][-1]
    assert 'role="alert"' in one(answers, "display_data")["data"]["text/html"]
    assert one(after, "execute_result")["data"]["text/plain"] == "1", "the refused cell must not have run"


async def test_a_warned_cell_shows_its_notice_first_and_runs(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        answers = await tab.run("print('done')  # please warn")
    assert kinds(answers)[0] == "display_data"
    assert one(answers, "stream")["text"] == "done\n"
    assert one(answers, "execute_reply")["status"] == "ok"


@pytest.mark.parametrize("word", ["break", "doze"])
async def test_a_cell_that_cannot_be_judged_is_refused_with_an_honest_notice(home, wire, word):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        answers = await tab.run(f"x = 1  # please {word}")
        after = await tab.run("print('x' in dir())")
    assert one(answers, "execute_reply")["ename"] == "NotRun"
    assert "could not be checked" in one(answers, "display_data")["data"]["text/plain"]
    assert one(after, "stream")["text"] == "False\n"


async def test_the_notice_speaks_the_browsers_language(home):
    async with home.kernel() as kernel, home.tab(kernel, headers={"Accept-Language": "pt-BR,pt;q=0.9"}) as tab:
        answers = await tab.run("please stop")
    assert "Não executada" in one(answers, "display_data")["data"]["text/html"]


async def test_a_silent_cell_that_is_not_run_shows_nothing_but_gets_its_error(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        answers = await tab.run("please stop", silent=True, store_history=False)
    assert kinds(answers) == ["status busy", "execute_reply", "status idle"]
    assert one(answers, "execute_reply")["status"] == "error"


async def test_user_expressions_are_judged_too(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        answers = await tab.run("1", user_expressions={"a": "2", "b": "'please stop'"})
        fine = await tab.run("1", user_expressions={"a": "2"})
    assert one(answers, "execute_reply")["status"] == "error"
    assert one(fine, "execute_reply")["user_expressions"]["a"]["data"]["text/plain"] == "2"
    assert [cell.via for cell in home.judge.saw][:2] == ["execute_request", "user_expressions"]


async def test_siblings_of_a_refused_cell_go_on(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        headers = [await tab.send(execute(code)) for code in ("a = 1", "a = 9  # please stop", "print(a)")]
        numbers = [header["msg_id"] for header in headers]
        replies, idle, text = {}, set(), ""
        # Replies and output come by two sockets of the kernel: only its idle says that all output is here.
        while set(replies) != set(numbers) or idle != set(numbers):
            message = await tab.receive()
            number, content = message["parent_header"].get("msg_id"), message["content"]
            if message["header"]["msg_type"] == "execute_reply":
                replies[number] = content["status"]
            if content.get("execution_state") == "idle" and number in numbers:
                idle.add(number)
            if message["header"]["msg_type"] == "stream":
                text += content["text"]
    assert [replies[number] for number in numbers] == ["ok", "error", "ok"]
    assert text == "1\n"


async def test_buffers_pass_both_ways(home, wire):
    echo = (
        "def opened(comm, message):\n"
        "    comm.on_msg(lambda m: comm.send({'n': len(m['buffers'])}, buffers=[bytes(b) for b in m['buffers']]))\n"
        "get_ipython().kernel.comm_manager.register_target('echo', opened)"
    )
    buffers = (b"\x00\x01\xff", b"", bytes(range(256)) * 300)
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        await tab.run(echo)
        await tab.send(request_of("comm_open", {"comm_id": "c", "target_name": "echo", "data": {}}))
        await tab.send(request_of("comm_msg", {"comm_id": "c", "data": {}}), buffers)
        answer = await tab.until("comm_msg")
    assert answer["content"]["data"] == {"n": 3}
    assert tuple(bytes(buffer) for buffer in answer["buffers"]) == buffers


async def test_an_answer_to_stdin_passes(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        header = await tab.send(execute("print('got ' + input('name? '))"))
        await tab.until("input_request")
        await tab.send(request_of("input_reply", {"value": "ana", "status": "ok"}, "stdin"))
        answers = await tab.answers(header)
    assert one(answers, "stream")["text"] == "got ana\n"
    assert home.judge.saw[-1].via == "input_reply"


async def test_an_answer_to_stdin_that_is_refused_becomes_empty_and_is_explained(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        header = await tab.send(execute("print(repr(input('name? ')))"))
        await tab.until("input_request")
        await tab.send(request_of("input_reply", {"value": "please stop", "status": "ok"}, "stdin"))
        answers = await tab.answers(header)
    assert one(answers, "stream")["text"] == "''\n"
    assert "Not run" in one(answers, "display_data")["data"]["text/plain"]


async def test_a_debuggers_evaluation_is_judged(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        asked = {"type": "request", "seq": 3, "command": "evaluate", "arguments": {"expression": "please stop"}}
        answers = await tab.answers(await tab.send(request_of("debug_request", asked, "control")))
    reply = one(answers, "debug_reply")
    assert (reply["success"], reply["request_seq"], reply["command"]) == (False, 3, "evaluate")
    assert "Not run" in reply["message"]
    assert home.judge.saw[-1].via == "debug_request"


async def test_an_interrupt_over_rest_reaches_the_kernel(home, wire):
    headers = {"Authorization": f"token {TOKEN}"}
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        header = await tab.send(execute("print('on')\nimport time; time.sleep(60)"))
        await tab.until("stream")
        async with home.http.post(home.url(f"api/kernels/{kernel}/interrupt"), headers=headers) as answer:
            assert answer.status == 204
        answers = await tab.answers(header)
    assert one(answers, "execute_reply")["ename"] == "KeyboardInterrupt"


async def test_two_tabs_on_one_kernel_see_each_others_output_and_only_their_own_notices(home, wire):
    async with (
        home.kernel() as kernel,
        home.tab(kernel, wire, session_id="one") as first,
        home.tab(kernel, V1, session_id="two") as second,
    ):
        await first.run("a = 41")
        await first.run("please stop")
        answers = await second.run("print(a + 1)")
        seen = await first.until("stream")
    assert one(answers, "stream")["text"] == seen["content"]["text"] == "42\n"
    assert "display_data" not in kinds(answers)


async def test_a_kernel_that_dies_in_mid_cell_is_reported_and_a_restart_goes_on(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        await tab.send(execute("import os, time; time.sleep(0.5); os.kill(os.getpid(), 9)"))
        await tab.until("execute_input")
        while True:
            message = await tab.until("status")
            if message["content"]["execution_state"] in ("restarting", "autorestarting"):
                break
        answers = []
        async with asyncio.timeout(60):
            while "execute_result" not in kinds(answers):
                with contextlib.suppress(
                    TimeoutError
                ):  # a cell sent while the kernel restarts is lost, gate or no gate
                    answers = await asyncio.wait_for(tab.run("1 + 1"), 3)
    assert one(answers, "execute_result")["data"]["text/plain"] == "2"


async def test_the_kernels_rest_interface_passes(home):
    headers = {"Authorization": f"token {TOKEN}"}
    async with home.kernel() as kernel:
        async with home.http.get(home.url("api/kernels"), headers=headers) as answer:
            assert kernel in [model["id"] for model in await answer.json()]
        async with home.http.post(home.url(f"api/kernels/{kernel}/restart"), headers=headers) as answer:
            assert (answer.status, (await answer.json())["id"]) == (200, kernel)
        async with home.http.get(home.url(f"api/kernels/{kernel}"), headers=headers) as answer:
            assert answer.status == 200
    async with home.http.get(home.url(f"api/kernels/{kernel}"), headers=headers) as answer:
        assert answer.status == 404


async def test_a_stranger_is_refused_by_the_server_itself_and_nothing_is_judged(home):
    async with home.kernel() as kernel:
        before = len(home.actors.asked)
        url = home.url(f"api/kernels/{kernel}/channels")
        async with home.http.get(url, headers=_upgrade()) as answer:
            assert answer.status == 403
            assert "Forbidden" in await answer.text()
        assert len(home.actors.asked) == before
    assert home.judge.saw == []


async def test_a_kernel_that_is_not_there_is_refused_by_the_server_itself(home):
    url = home.url("api/kernels/00000000-0000-0000-0000-000000000000/channels")
    headers = {"Authorization": f"token {TOKEN}", **_upgrade()}
    async with home.http.get(url, headers=headers) as answer:
        assert answer.status == 404


def _upgrade() -> dict[str, str]:
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
