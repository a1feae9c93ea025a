"""The rounds: every few seconds somebody looks at the timers and takes out the post; several may, each does less."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from mutirao.cases import appeal, delivery
from mutirao.cases.mail import deliver
from mutirao.cases.office import Office
from mutirao.cases.tick import tick
from mutirao.errors import MutiraoError
from mutirao.fairness import Mail
from mutirao.store.store import Store

log = logging.getLogger(__name__)
EVERY_S = 5.0


class Rounds:
    """A thread that makes rounds until it is stopped; a round that fails is logged, and the next one comes."""

    def __init__(
        self, store: Store, office: Office, mail: Mail, clock: Callable[[], datetime], default_lang: str = "en"
    ) -> None:
        self.store = store
        self.office = office
        self.mail = mail
        self.clock = clock
        self.default_lang = default_lang
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mutirao-rounds", daemon=True)

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the round under way, and make no further one."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * self.mail.timeout_s)

    def once(self) -> None:
        """One round; it writes only where something is due."""
        now = self.clock()
        with self.store.read() as session:
            due = appeal.anything_due(session, self.office, now)
            post = delivery.mail_due(session, now)
        if due:
            with self.store.write() as session:
                tick(session, self.office, now)
        if post:
            deliver(self.store, self.mail, self.clock, self.default_lang)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.once()
            except MutiraoError as error:
                log.warning("A round was not finished: %s", error)
            except Exception:
                log.exception("A round failed.")
            self._over.wait(EVERY_S)
