"""The messages that the gate sends a client in a kernel's stead."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mutirao.cases.action import Action
from mutirao.cases.notice import NoticeText
from mutirao.gate.card import card, plain, traceback
from mutirao.gate.wire import Message

ENAME, ENDED = "NotRun", "Ended"
_VERSION = "5.3"
_REPLIES = {"execute_request": "execute_reply", "debug_request": "debug_reply"}


@dataclass(frozen=True, slots=True)
class Answers:
    """Builds a connection's messages; every one is a child of the request that it answers."""

    session: str = field(default_factory=lambda: uuid.uuid4().hex)

    def notice(self, parent: dict[str, Any], text: NoticeText, action: Action) -> Message:
        """The notice as an output of the parent: a card, and the same in plain text."""
        data = {"text/html": card(text, action), "text/plain": plain(text)}
        return self._message("iopub", "display_data", parent, {"data": data, "metadata": {}, "transient": {}})

    def not_run(
        self, request: Message, text: NoticeText, action: Action, execution_count: int, ename: str = ENAME
    ) -> list[Message]:
        """What a kernel would send about a request that failed: busy, output and error, reply, idle."""
        if request.msg_type == "debug_request":
            return self._between(request, [self._debug_reply(request, text)])
        outputs = []
        if request.content.get("silent") is not True:
            outputs = [
                self.notice(request.header, text, action),
                self._message("iopub", "error", request.header, error(text, ename)),
            ]
        content = {
            "status": "error",
            "execution_count": execution_count,
            "user_expressions": {},
            "payload": [],
            **error(text, ename),
        }
        reply = self._message(request.channel, "execute_reply", request.header, content)
        return self._between(request, [*outputs, reply])

    def malformed(self, request: Message, reason: str) -> list[Message]:
        """An error reply to a request whose content can't be read, [] where its type has no reply."""
        if request.msg_type not in _REPLIES:
            return []
        error = {"ename": "BadMessage", "evalue": reason, "traceback": [f"BadMessage: {reason}"]}
        content: dict[str, Any] = {"status": "error", **error}
        if request.msg_type == "debug_request":
            content = {"type": "response", "success": False, "message": reason}
        replies = [self._message(request.channel, _REPLIES[request.msg_type], request.header, content)]
        if request.msg_type == "execute_request":
            replies.insert(0, self._message("iopub", "error", request.header, error))
        return self._between(request, replies)

    def _debug_reply(self, request: Message, text: NoticeText) -> Message:
        content = {
            "type": "response",
            "seq": 0,
            "request_seq": request.content.get("seq", 0),
            "command": request.content.get("command", ""),
            "success": False,
            "message": plain(text),
            "body": {},
        }
        return self._message(request.channel, "debug_reply", request.header, content)

    def _between(self, request: Message, messages: list[Message]) -> list[Message]:
        busy, idle = (
            self._message("iopub", "status", request.header, {"execution_state": state}) for state in ("busy", "idle")
        )
        return [busy, *messages, idle]

    def _message(self, channel: str, msg_type: str, parent: dict[str, Any], content: dict[str, Any]) -> Message:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "username": "mutirao",
            "session": self.session,
            "date": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "version": _VERSION,
        }
        return Message(channel=channel, header=header, parent_header=parent, content=content)


def error(text: NoticeText, ename: str = ENAME) -> dict[str, Any]:
    """The notice as the content of an error."""
    lines = traceback(text, ename)
    return {"ename": ename, "evalue": lines[0].removeprefix(f"{ename}: "), "traceback": lines}
