"""The frame around every page: header, footer and language, the same on the hub's pages and on ours."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """What header and footer need; the markup is in `templates/frame/`.

    `switch` is (language tag, label, address) for each other language; `name` is empty for nobody.
    `toggle` is the id of the button for light and dark; `review` says that they may read the desk of reviewers.
    """

    home: str
    prefix: str
    hub_url: str
    assets: str
    version: str
    log_in: str
    log_out: str
    toggle: str
    here: str = ""
    name: str = ""
    admin: bool = False
    review: bool = False
    switch: tuple[tuple[str, str, str], ...] = ()
