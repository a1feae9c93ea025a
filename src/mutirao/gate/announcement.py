"""What the service tells a member about their runtime, in the cells that are running."""

from typing import Any

from mutirao.cases.action import Action
from mutirao.cases.notice import Notice, NoticeText
from mutirao.errors import WireError
from mutirao.language import LANGUAGES, translate

SECRET_HEADER = "X-Mutirao-Secret"  # noqa: S105 - a header's name

TITLE = "Out of memory"
LEAD = "This runtime has {memory_mb} MiB of memory, and it was full, so the process that used most of it was ended."
FACT = "That was most likely this kernel: its variables are gone, and it restarts by itself."
CONSEQUENCE = "Your runtime, your files and your other notebooks are untouched. This is no sanction."
NEXT_STEP = "Load less at a time, free what you no longer need with del, or start a larger runtime from the home page."


def out_of_memory(memory_mb: int) -> Notice:
    """The notice that the kernel of the operating system ended a process for want of memory; `memory_mb` in MiB."""
    texts = {}
    for lang in LANGUAGES:
        texts[lang] = NoticeText(
            lang=lang,
            title=translate(lang, "notices", TITLE),
            lead=translate(lang, "notices", LEAD, memory_mb=memory_mb),
            facts=(translate(lang, "notices", FACT),),
            clause="",
            consequence=translate(lang, "notices", CONSEQUENCE),
            next_step=translate(lang, "notices", NEXT_STEP),
            links=(),
        )
    return Notice(case=None, action=Action.WARN, category=None, texts=texts)


def read(body: Any) -> tuple[str, str, Notice]:
    """Owner, server and notice of an announcement from the hub; WireError where it is none."""
    match body:
        case {"kind": "out-of-memory", "owner": str(owner), "server": str(server), "memory_mb": int(memory_mb)}:
            return owner, server, out_of_memory(memory_mb)
    raise WireError("This is no announcement that the gate knows: kind must be out-of-memory.")
