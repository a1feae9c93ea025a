"""The code in a kernel message: what a judge must see before the message may pass.

What is not here (comms, completion, inspection, types nobody knows) passes unread; docs/why/gate.md lists it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mutirao.errors import WireError
from mutirao.gate.wire import Message

# Keys of a debug request's arguments whose values debugpy or ipykernel evaluate, at any depth:
# evaluate, setVariable, setExpression, setBreakpoints (log messages too), dumpCell, copyToGlobals.
# A variable's name counts too: with a dot in it, debugpy executes "name = value" as it stands.
EVALUATED = frozenset(
    {
        "code",
        "expression",
        "condition",
        "hitCondition",
        "logMessage",
        "value",
        "name",
        "variableName",
        "srcVariableName",
        "dstVariableName",
    }
)
_MAX_DEPTH = 50
MOST_SNIPPETS = 1_000
"""A message with more pieces of code than that is refused: no client sends one."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """Code in a message, and how it travels (the words of Cell.via)."""

    code: str
    via: str


def snippets(message: Message) -> list[Snippet]:
    """Every piece of code in the message, [] where it carries none; WireError where its content is not as specified."""
    content = message.content
    if message.msg_type == "execute_request":
        return _execute(content)
    if message.msg_type == "input_reply":
        return _some([_text(content, "value", message.msg_type)], "input_reply")
    if message.msg_type == "debug_request":
        return _some(dict.fromkeys(_evaluated(content.get("arguments"))), "debug_request")
    if message.msg_type == "apply_request":
        raise WireError("An apply_request carries a pickled function, which nobody can read: send an execute_request.")
    return []


def _execute(content: dict[str, Any]) -> list[Snippet]:
    expressions = content.get("user_expressions") or {}
    # Protocol 4's user_variables become expressions in jupyter_client's adapter.
    variables = content.get("user_variables") or ()
    if not isinstance(expressions, dict) or not all(isinstance(value, str) for value in expressions.values()):
        raise WireError("The execute_request's user_expressions must be an object of names and expressions (text).")
    if not isinstance(variables, list | dict | tuple) or not all(isinstance(name, str) for name in variables):
        raise WireError("The execute_request's user_variables must be a list of names (text).")
    code = _text(content, "code", "execute_request")
    extra = dict.fromkeys([*expressions.values(), *variables])
    return [*_some([code], "execute_request"), *_some(extra, "user_expressions")]


def _text(content: dict[str, Any], key: str, msg_type: str) -> str:
    value = content.get(key)
    if not isinstance(value, str):
        raise WireError(f"The {msg_type}'s {key} is {type(value).__name__}: it must be text.")
    return value


def _some(codes: Any, via: str) -> list[Snippet]:
    return [Snippet(code, via) for code in codes if code.strip()]


def _evaluated(arguments: Any) -> Iterator[str]:
    stack: list[tuple[Any, bool, int]] = [(arguments, False, 0)]
    while stack:
        value, evaluated, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise WireError(f"The debug_request's arguments are nested deeper than {_MAX_DEPTH} levels.")
        if isinstance(value, str) and evaluated:
            yield value
        elif isinstance(value, dict):
            stack.extend((inner, key in EVALUATED, depth + 1) for key, inner in reversed(value.items()))
        elif isinstance(value, list):
            stack.extend((inner, evaluated, depth + 1) for inner in reversed(value))
