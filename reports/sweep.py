"""The best trials of a sweep: their settings, what they scored at every rung and in the end, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator

from diga.report import correlation, search
from diga.report.ablation import Shown
from diga.report.records import Records
from diga.report.search import Search
from diga.report.table import Cell, Column, Row, Table, number

MOST = 10  # trials of the table
SCORED, SETTING, COST = "Scored", "Setting", "It computed"
LUCK = "The best of many trials with one seed is lucky as well as good"
RUNGS = (
    "Rungs can be compared with each other and with the end: each is a training of its own whose learning rate has "
    "decayed to its end. τ: Kendall's rank correlation of a rung with the end, over trials that have both. Only trials "
    "that went on have both: it says how far a rung can be trusted among the good."
)


def table(records: Records) -> Table:
    """The best trials, the best first.  Raises ConfigError for a study that is no sweep."""
    found = search.of(records)
    best = found.ranked[:MOST]
    shown = [
        Shown(Column(key="trial", header="Trial"), {_key(n): Cell(text=_key(n)) for n in best}),
        *_objectives(found, best),
        *_rungs(found, best),
        *_settings(found, best),
        *_costs(found, best),
    ]
    return Table(
        title=f"The best {len(best)} trials" if best else "No trial is done",
        caption=search.caption(found),
        label=f"sweep-{records.name}",
        columns=tuple(s.column for s in shown),
        rows=tuple(Row(key=_key(n), cells=tuple(s.cells[_key(n)] for s in shown)) for n in best),
        notes=tuple(_notes(found)),
    )


def _key(number: int) -> str:
    return f"#{number}"


def _objectives(found: Search, best: list[int]) -> Iterator[Shown]:
    for objective in found.objectives:
        values, scale = found.scores(objective), search.scale(objective.metric)
        column = Column(
            key=objective.name,
            header=search.heading(objective),
            group=SCORED,
            kind="score",
            better="max" if objective.direction == "max" else None,
            spread=False,
            decimals=2,
        )
        yield Shown(column, {_key(n): Cell(mean=scale * values[n], runs=(found.run_of[n],)) for n in best})


def _rungs(found: Search, best: list[int]) -> Iterator[Shown]:
    """What the main objective was after fewer updates."""
    scale = search.scale(found.main.metric)
    for steps in found.early:
        column = Column(
            key=f"rung_{steps}", header=str(steps), group="After updates", kind="score", spread=False, decimals=2
        )
        known = {n: found.rungs[n].get(steps, math.nan) for n in best}
        yield Shown(column, {_key(n): Cell(mean=scale * value) for n, value in known.items()})


def _settings(found: Search, best: list[int]) -> Iterator[Shown]:
    """The values that were asked for; blank where one was not."""
    for path in found.paths:
        texts = {n: search.shown(found.params[n][path]) if path in found.params[n] else "" for n in best}
        column = Column(key=path, header=found.names[path], group=SETTING)
        yield Shown(column, {_key(n): Cell(text=text) for n, text in texts.items()})


def _costs(found: Search, best: list[int]) -> Iterator[Shown]:
    for metric, header, scale, decimals in (("cost/steps", "updates", 1.0, 0), ("cost/seconds", "minutes", 1 / 60, 1)):
        values = found.values(metric)
        if any(n in values for n in best):
            column = Column(key=header, header=header, group=COST, kind="score", spread=False, decimals=decimals)
            yield Shown(column, {_key(n): Cell(mean=scale * values.get(n, math.nan)) for n in best})


# --- notes -------------------------------------------------------------------------------


def _notes(found: Search) -> Iterator[str]:
    if found.ranked:
        oracle = ", and this one was chosen on target labels, which an adaptation without labels has not"
        yield f"{LUCK}{oracle if found.main.oracle else ''}."
    if len(found.objectives) > 1:
        yield "Several objectives: first the trials that no other is better than in all of them."
    yield from search.saved(found)
    yield from _ranks(found)
    if broken := [n for n, state in found.status.items() if state == "failed"]:
        yield f"Failed, hence never best: {', '.join(map(_key, broken))}."


def _ranks(found: Search) -> Iterator[str]:
    """How every rung ranks the trials that came to the end."""
    final = found.scores(found.main)
    said = []
    for steps in found.early:
        both = [n for n in final if steps in found.rungs[n]]
        tau = correlation.kendall([found.rungs[n][steps] for n in both], [final[n] for n in both])
        said.append(f"{steps} updates τ {number(tau, 2, signed=True) if tau == tau else 'none'} (n = {len(both)})")
    if said:
        yield f"Rungs against the end: {'; '.join(said)}. {RUNGS}"


def verdicts(records: Records) -> list[str]:
    """What the search found, which is no comparison yet."""
    found = search.of(records)
    if not found.ranked:
        return [f"The search has no finished trial yet: {search.counts(found)}."]
    n, main = found.ranked[0], found.main
    value = number(search.scale(main.metric) * found.scores(main)[n], 2)
    labels = f", chosen on {search.READS}" if main.oracle else ""
    return [
        f"The search's best trial by {main.name} is #{n}, {value} with one seed{labels}: {search.setting(found, n)}."
    ]
