"""Before a study costs anything: every switch must change something, and only what it says.

First the recipes are compared, row by parent.  Then a small step of every distinct row is made, on a few
real images (`diga.launch.glimpse`): rows of which nothing that a table sees comes out different are one
row under two names.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from diga.differences import between, fields, told
from diga.errors import ConfigError, DigaError
from diga.identity import Use
from diga.pipeline import Place
from diga.plan import StageRun, stage_runs
from diga.recipe import override
from diga.rows import Row, undeclared
from diga.study import Study

NAMED = 3  # fields that an error names
LOOKS = ((2, 4), (16, 32))  # steps at either end and images of a domain; the second for rows that seem the same

Seen = Callable[[int, int], None]  # rows looked at, and in all


def check(study: Study, place: Place, seen: Seen = lambda done, total: None) -> None:
    """Raises ConfigError, naming rows and fields, for a row that is another one again or differs by more than it says.

    A row whose step cannot be made, for it diverges or its data are damaged, is left to the launch.
    Rows are looked at with the study's first seed.
    """
    undeclared(study.rows)
    chains = {row.label: _chain(row, study.seeds[0]) for row in study.rows}
    _told_apart(study, {label: chain[-1].fingerprint for label, chain in chains.items()})
    rows, came = list(study.rows), dict[str, str]()
    for steps, images in LOOKS:
        found = _looked_at([chains[row.label] for row in rows], place, steps, images, seen)
        came = {row.label: what for row, what in zip(rows, found, strict=True) if what}
        often = Counter(came.values())
        rows = [row for row in rows if often[came.get(row.label, "")] > 1]
        if not rows:
            return
    _told_apart(study, {row.label: came[row.label] for row in rows})


def _chain(row: Row, seed: int) -> list[StageRun]:
    """The stage runs of a row, with names of domains for their digests: no dataset is read for this."""
    from diga.launch.glimpse import shrunk

    return stage_runs(shrunk(override(row.recipe, {"seed": seed})), _name)


def _name(domain: str, use: Use) -> str:
    return domain


def _told_apart(study: Study, found: dict[str, str]) -> None:
    """Raises ConfigError for the first two rows that came to the same."""
    first: dict[str, Row] = {}
    for row in study.rows:
        if (what := found.get(row.label)) is None:
            continue
        if (twin := first.setdefault(what, row)) is not row:
            pairs = between(fields(twin.recipe), fields(row.recipe))
            named = ", ".join(f"{path} {told(pair)}" for path, pair in list(pairs.items())[:NAMED])
            more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
            why = f"{named}{more} changes nothing" if pairs else "no field differs"
            what = f"rows {twin.label!r} and {row.label!r} come to the same: {why}"
            raise ConfigError(study.name, what, "a switch that changes something; --no-guard launches all the same")


def _looked_at(chains: Sequence[list[StageRun]], place: Place, steps: int, images: int, seen: Seen) -> list[str | None]:
    """What each row came to: its last stage, and those that this one reads; None for a row that cannot be judged."""
    last_use = {run.fingerprint: i for i, chain in enumerate(chains) for run in chain}
    results: dict[str, str | None] = {}
    found: list[str | None] = []
    with tempfile.TemporaryDirectory(prefix="diga-guard-") as root:
        for i, chain in enumerate(chains):
            for run in chain:
                if run.fingerprint not in results:
                    results[run.fingerprint] = _result(run, Path(root), results, place.data, steps, images)
            found.append(_of_row(chain, results))
            for fingerprint in [f for f, last in last_use.items() if last == i]:
                shutil.rmtree(Path(root, fingerprint), ignore_errors=True)  # networks may be large
            seen(i + 1, len(chains))
    return found


def _result(
    run: StageRun, root: Path, results: dict[str, str | None], data: Path, steps: int, images: int
) -> str | None:
    from diga.launch.glimpse import look

    if any(results[fingerprint] is None for fingerprint in run.inputs.values()):
        return None
    inputs = {ref: root / fingerprint for ref, fingerprint in run.inputs.items()}
    try:
        return look(run, root / run.fingerprint, inputs, data, steps, images)
    except (DigaError, RuntimeError, MemoryError):  # of torch too: the launch will meet it and tell it
        return None


def _of_row(chain: Sequence[StageRun], results: dict[str, str | None]) -> str | None:
    parts = [results[f] for f in (*chain[-1].inputs.values(), chain[-1].fingerprint)]
    if None in parts:
        return None
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()
