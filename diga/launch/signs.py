"""Signs of life of what a cluster was sent, for a cluster can lose a worker, or a task, without a word.

Whoever carries a stage out keeps touching its lease (`diga.lease`), wherever it is: a lease that has gone cold says
more than the cluster does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from diga import lease
from diga.plan import StageRun
from diga.store import Store

COLD = 60.0  # seconds without a touch after which a worker is given up
LATE = 300.0  # seconds after which a task that has room and does not begin is given up
PAUSE = 2.0  # seconds between two looks


class Sent:
    """One stage that was sent: when its lease last changed, whether it has since, when it could last be held."""

    def __init__(self, seen: lease.Seen, now: float) -> None:
        self.seen, self.since, self.held = seen, now, now
        self.begun = False


class Signs:
    """When each stage that was sent last showed a sign of life."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sent: dict[str, Sent] = {}
        self.looked = 0.0

    def due(self) -> bool:
        """Whether it is time to look again."""
        due = time.monotonic() - self.looked >= PAUSE
        self.looked = time.monotonic() if due else self.looked
        return due

    def lost(self, run: StageRun, free: Callable[[], bool], possible: Callable[[], bool]) -> str:
        """Why a stage that was sent counts as lost; empty while there is hope.

        free, possible: whether the cluster has room for it now, and at best.  A lease that is as it was when the
        stage was sent may be of one that is gone, and says nothing.
        """
        now, seen = time.monotonic(), lease.look(self.store.claims(run.fingerprint))
        sent = self.sent.setdefault(run.fingerprint, Sent(seen, now))
        if seen != sent.seen:
            sent.seen, sent.since, sent.begun = seen, now, True
        if sent.begun and now - sent.since > COLD:
            return f"no sign of life for {COLD:.0f} s"
        if not sent.begun and now - sent.since > LATE and free():
            return f"not begun after {LATE:.0f} s, though there is room"
        if possible():
            sent.held = now
        elif now - sent.held > LATE:
            return f"no node that could hold it for {LATE:.0f} s"
        return ""

    def forget(self, run: StageRun) -> None:
        """A stage is sent, for the first time or again."""
        self.sent.pop(run.fingerprint, None)
