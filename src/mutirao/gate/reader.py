"""`python -m mutirao.gate.reader`: reads hostile input in a process of its own, with no rights and little memory.

Its parent writes tasks to stdin and reads answers from stdout, one after the other. A task is two lengths (big-endian
uint64), a JSON object and a body; an answer is one length and a JSON object.

scan: the body is a cell's code, `language` its kernel's, `memory` what that kernel did before; the answer holds
`findings` and the `memory` with this cell in it.
inspect: the body is a websocket frame, `wire` and `text` its format; the answer holds the message's outline and the
code in it (`snippets`), or `too_long` where there is more than anybody could judge.
Both answer `error`, with the error's name under `kind`, where that fails.

Two processes are cheap, a thread is not: a scan holds Python's lock for up to a second, a JSON text of 100 MB longer.
"""

import json
import os
import resource
import struct
import sys
from dataclasses import asdict
from typing import Any, BinaryIO

from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding, Level, Maturity
from mutirao.detect.memory import Memory
from mutirao.detect.pack import default_pack
from mutirao.detect.source.reader import LONGEST
from mutirao.errors import MutiraoError, TooLongError, WireError
from mutirao.gate.inspect import MOST_SNIPPETS, Snippet, snippets
from mutirao.gate.wire import Frame, Message, Wire, parse
from mutirao.policy.category import Category
from mutirao.process import settled

OUTLINE = ("silent", "seq", "command", "status")
"""What an answer in a kernel's stead needs of a message's content; the rest of a large message stays where it is."""
_LONGEST_HEADER_CHARACTERS = 65_536


def main() -> None:
    """Answer tasks until stdin ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    engine = Engine(default_pack())
    engine.scan("import os\nos.system('echo ' + 'ready')\n!echo ready\n%%bash\necho ready")
    settled()
    _give_up_rights(int(sys.argv[1]))
    _write(sink, {"ready": True})
    while (task := _read(source)) is not None:
        head, body = task
        try:
            answer = _answer(engine, head, body)
        except (MemoryError, RecursionError):
            answer = {"error": "Reading it takes more memory than there is.", "kind": "WireError"}
        except MutiraoError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        del task, head, body
        _write(sink, answer)


def _answer(engine: Engine, head: dict[str, Any], body: bytes) -> dict[str, Any]:
    if head["do"] == "scan":
        memory = Memory.from_document(head["memory"])
        found = engine.scan(body.decode("utf-8", "surrogatepass"), head["language"], memory)
        return {"findings": [asdict(finding) for finding in found], "memory": memory.document()}
    message = parse(Frame(body, head["text"]), Wire(head["wire"]))
    outline = {
        "channel": message.channel,
        "header": _short(message.header),
        "content": _short({key: message.content[key] for key in OUTLINE if key in message.content}),
    }
    try:
        pieces = snippets(message)
    except WireError as error:
        return outline | {"malformed": str(error)}
    if len(pieces) > MOST_SNIPPETS or any(len(piece.code) > LONGEST for piece in pieces):
        return outline | {"too_long": True}
    return outline | {"snippets": [(piece.code, piece.via) for piece in pieces]}


def _short(part: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(part)) > _LONGEST_HEADER_CHARACTERS:
        raise WireError(f"The header has more than {_LONGEST_HEADER_CHARACTERS} characters.")
    return part


def _give_up_rights(memory_mb: int) -> None:
    """No new file, no new process, no file written, memory limited; others go first."""
    os.nice(10)
    limits = {
        resource.RLIMIT_AS: memory_mb << 20,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 3,
        resource.RLIMIT_NPROC: 0,
    }
    for name, most in limits.items():
        resource.setrlimit(name, (most, most))


def _read(source: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    lengths = source.read(16)
    if len(lengths) < 16:
        return None
    head_length, body_length = struct.unpack("!QQ", lengths)
    head = json.loads(source.read(head_length))
    body = source.read(body_length)
    return (head, body) if len(body) == body_length else None


def _write(sink: BinaryIO, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode()
    sink.write(struct.pack("!Q", len(data)) + data)
    sink.flush()


def task(head: dict[str, Any], body: bytes) -> list[bytes]:
    """A task as it goes to a reader, in pieces."""
    data = json.dumps(head).encode()
    return [struct.pack("!QQ", len(data), len(body)) + data, body]


def findings(answer: dict[str, Any]) -> tuple[Finding, ...]:
    """The findings in an answer to `scan`; raises what the reader raised."""
    _raise(answer)
    return tuple(
        Finding(
            **row
            | {
                "category": Category(row["category"]),
                "level": Level(row["level"]),
                "maturity": Maturity(row["maturity"]),
            }
        )
        for row in answer["findings"]
    )


def outline(answer: dict[str, Any]) -> Message:
    """The message in an answer to `inspect`, without what only the kernel needs; WireError where it can't be read."""
    _raise(answer)
    return Message(channel=answer["channel"], header=answer["header"], content=answer["content"])


def code(answer: dict[str, Any]) -> list[Snippet]:
    """The code in an answer to `inspect`; WireError or TooLongError where that is none that can be judged."""
    if "malformed" in answer:
        raise WireError(answer["malformed"])
    if answer.get("too_long"):
        raise TooLongError("The message carries more code than can be judged.")
    return [Snippet(text, via) for text, via in answer["snippets"]]


def _raise(answer: dict[str, Any]) -> None:
    if "error" in answer:
        raise TooLongError(answer["error"]) if answer["kind"] == "TooLongError" else WireError(answer["error"])


if __name__ == "__main__":
    main()
