"""Code on its way to a kernel, and the verdict on it."""

import hashlib
from dataclasses import dataclass

from mutirao.cases.action import Action
from mutirao.cases.notice import Notice


@dataclass(frozen=True, slots=True)
class Cell:
    """Code that somebody asks a kernel to run.

    `actor` is the JupyterHub user whose token or cookie runs it, None where the hub could not say;
    `owner` is the user whose server it is. `via` is the message that carried it: execute_request,
    user_expressions, input_reply, debug_request or execute (server-side). `language` is the kernel's.
    """

    code: str
    actor: str | None
    owner: str
    server: str
    kernel: str
    via: str = "execute_request"
    language: str = "python"

    @property
    def digest(self) -> str:
        """SHA-256 of the code, in hexadecimal: what a permit is bound to."""
        return hashlib.sha256(self.code.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a cell; every action but allow carries the notice for the member."""

    action: Action
    notice: Notice | None = None

    def __post_init__(self) -> None:
        if self.action is not Action.ALLOW and self.notice is None:
            raise ValueError(f"a verdict of {self.action} needs a notice: nobody is stopped without being told")
