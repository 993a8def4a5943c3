"""A process that draws beside the one that reads: it learns to draw while records come, and draws on all cores."""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from diga.errors import StorageError
from diga.report import figures

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from diga.report.evidence import Evidence
    from diga.report.records import Records


class Studio:
    """Begin it before anything heavy is imported: it is a copy of its process.

    `draw` sends what is to be drawn and returns at once, `drawn` waits for what `figures.draw` says of it.
    """

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._pipe))
        self._process.start()
        theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join()

    def draw(self, known: Records, found: Evidence, folder: Path) -> None:
        """Begin to draw what can be drawn into `folder`."""
        self._pipe.send((known, found, folder))

    def drawn(self) -> tuple[list[figures.Figure], dict[str, str]]:
        """Figures, and of the others, by title, what is missing.  Raises what drawing has raised."""
        try:
            answer = self._pipe.recv()
        except EOFError:
            what = "the process that draws them has ended"
            raise StorageError("figures", what, "memory for them, then the same command again") from None
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


def _work(pipe: Connection, others: Connection) -> None:
    others.close()  # else nobody would hear that the other side is gone
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    figures.learn()
    with suppress(EOFError, OSError):  # nothing is to be drawn, or nobody waits for it
        pipe.send(_answer(*pipe.recv()))


def _answer(known: Records, found: Evidence, folder: Path) -> Any:
    try:
        return figures.draw(known, found, folder)
    except Exception as failure:
        return failure
