"""What became of a refused cell, as jupyter-server-nbmodel asks for it: 202 with an address, then a GET of that.

So the refusal is the cell's output, as an error is. An address is random, and answers only whom the server accepts.
Source: handlers.py and executor.ts of jupyter-server-nbmodel 0.2.
"""

import json
import uuid
from collections import OrderedDict
from typing import Any

from aiohttp import hdrs, web

from mutirao.cases.notice import Notice
from mutirao.gate.answer import error
from mutirao.gate.card import card, plain
from mutirao.gate.route import Place

MOST_OF_A_MEMBER = 16
"""Those that are asked for are asked for within a second; an older one is the server's 404."""
MOST = 512
_PREFIX = "requests/not-run-"


class Outcomes:
    """The latest refusals, by owner and address."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()

    def accept(self, place: Place, notice: Notice, language: str, cell_id: object) -> web.Response:
        """The answer to the request to run the cell; what became of it can be asked for from now on."""
        text = notice.text(language)
        action = f"{_PREFIX}{uuid.uuid4().hex}"
        shown = {"text/html": card(text, notice.action), "text/plain": plain(text)}
        outputs = [
            {"output_type": "display_data", "data": shown, "metadata": {}},
            {"output_type": "error", **error(text)},
        ]
        self._keep(
            place.route.user,
            f"{place.kernel}/{action}",
            {
                "status": "error",
                "execution_count": None,
                "outputs": json.dumps(outputs),
                "reason": "NotRun",
                "case": notice.case,
            },
        )
        where = f"/api/kernels/{place.kernel}/{action}"
        asked = {
            "request_id": action.removeprefix("requests/"),
            "kernel_id": place.kernel,
            "cell_id": cell_id if isinstance(cell_id, str) else None,
            "pending": True,
            "request_status": "queued",
            "request_url": where,
            "outputs": "[]",
        }
        headers = {hdrs.LOCATION: where, hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: hdrs.LOCATION}
        return web.json_response(asked, status=202, headers=headers)

    def find(self, place: Place) -> dict[str, Any] | None:
        """The outcome that the path names; None where there is none here: then it is the server's to answer."""
        return self._kept.get((place.route.user, f"{place.kernel}/{place.action}"))

    def _keep(self, owner: str, name: str, outcome: dict[str, Any]) -> None:
        self._kept[owner, name] = outcome
        mine = [key for key in self._kept if key[0] == owner]
        for key in mine[:-MOST_OF_A_MEMBER]:
            del self._kept[key]
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
