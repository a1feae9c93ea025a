"""What is code in a message."""

import pytest

from mutirao.errors import WireError
from mutirao.gate.inspect import Snippet, snippets
from mutirao.gate.wire import Message


def message(msg_type: str, content: dict) -> Message:
    return Message("shell", {"msg_type": msg_type}, content=content)


def debug(command: str, **arguments: object) -> Message:
    return message("debug_request", {"type": "request", "command": command, "arguments": arguments})


CODE = [
    (message("execute_request", {"code": "a"}), ["a"]),
    (message("execute_request", {"code": "a", "user_expressions": None}), ["a"]),
    (message("execute_request", {"code": " ", "user_expressions": {"x": "b", "y": "c"}}), ["b", "c"]),
    # Protocol 4: an adapter in the kernel makes expressions of them.
    (message("execute_request", {"code": "", "user_variables": ["b()"]}), ["b()"]),
    (message("execute_request", {"code": "", "user_variables": {"b()": ""}}), ["b()"]),
    (message("input_reply", {"value": "a"}), ["a"]),
    (message("input_reply", {"value": ""}), []),
    (debug("evaluate", expression="a", frameId=1, context="repl"), ["a"]),
    (debug("dumpCell", code="a"), ["a"]),
    (
        debug(
            "setBreakpoints", source={"path": "/x"}, breakpoints=[{"line": 1, "condition": "a"}, {"logMessage": "{b}"}]
        ),
        ["a", "{b}"],
    ),
    (debug("setBreakpoints", breakpoints=[{"hitCondition": "a"}]), ["a"]),
    (debug("setVariable", variablesReference=1, name="x.y", value="a"), ["x.y", "a"]),
    (debug("setExpression", expression="a", value="b"), ["a", "b"]),
    (debug("copyToGlobals", srcVariableName="a", dstVariableName="b"), ["a", "b"]),
    (debug("somethingNew", deep=[{"er": [{"code": "a"}]}]), ["a"]),
    (debug("continue", threadId=1), []),
    (message("debug_request", {"command": "attach"}), []),
    (message("comm_msg", {"data": {"code": "a"}}), []),
    (message("complete_request", {"code": "a"}), []),
    (message("inspect_request", {"code": "a"}), []),
    (message("invented_request", {"code": "a"}), []),
]


@pytest.mark.parametrize(("sent", "codes"), CODE)
def test_every_piece_of_code_is_found(sent, codes):
    assert [snippet.code for snippet in snippets(sent)] == codes


def test_each_piece_says_how_it_travels():
    sent = message("execute_request", {"code": "a", "user_expressions": {"x": "b"}})
    assert snippets(sent) == [Snippet("a", "execute_request"), Snippet("b", "user_expressions")]


def test_a_pickled_function_is_refused():
    with pytest.raises(WireError, match="nobody can read"):
        snippets(message("apply_request", {}))


@pytest.mark.parametrize(
    "sent",
    [
        message("execute_request", {}),
        message("execute_request", {"code": None}),
        message("execute_request", {"code": ["a"]}),
        message("execute_request", {"code": {"a": 1}}),
        message("execute_request", {"code": "a", "user_expressions": ["b"]}),
        message("execute_request", {"code": "a", "user_expressions": {"x": ["b"]}}),
        message("execute_request", {"code": "a", "user_variables": "b"}),
        message("execute_request", {"code": "a", "user_variables": [1]}),
        message("input_reply", {}),
        message("input_reply", {"value": ["a"]}),
    ],
)
def test_content_that_is_not_as_specified_is_refused(sent):
    with pytest.raises(WireError, match="must be"):
        snippets(sent)


def test_arguments_nested_without_end_are_refused():
    deep: object = "a"
    for _ in range(60):
        deep = [deep]
    with pytest.raises(WireError, match="deeper"):
        snippets(debug("evaluate", expression=deep))
