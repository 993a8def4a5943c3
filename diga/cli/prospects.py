"""`diga plan SPACE`: what a sweep would take, end to end, with shared stages once, and with trials ended at rungs."""

from __future__ import annotations

from rich.table import Column, Table

from diga.cli.console import out
from diga.cli.look import dimensions_of
from diga.cli.searching import Declared, Typed, declared
from diga.cli.words import spoken
from diga.errors import StorageError
from diga.forecast import Forecast
from diga.past import Past
from diga.pipeline import Place
from diga.plan import StageRun, digests, stage_runs
from diga.prospect import Prospect, prospect, reaching

LEARNT = "as many go on as of settings drawn at random; a sampler that learns makes later ones better, and more go on"


def plan_sweep(typed: Typed, gpus: int, budget: float | None) -> None:
    """Print a sweep's plan.  Raises StorageError where it takes more than the budget, or where nobody can say."""
    from diga.launch.sweeps import shared

    found, place = declared(typed), Place.here()
    digest = digests(place.data, place.manifests)
    chain = stage_runs(found.sweep.base, digest)
    common = shared(chain, found.explored, digest)
    past = Forecast([chain], Past.read(place.store.root))
    out.print(dimensions_of(f"{found.sweep.name}: {found.sweep.trials} trials", found.sweep.dimensions))
    tell_chain(chain, common, past)
    steps = prospect(found.sweep, chain, common, lambda run: float(run.steps))
    time = prospect(found.sweep, chain, common, lambda run: past.estimates[run.fingerprint].seconds or 0.0)
    there = sum(past.estimates[f].seconds or 0.0 for f in common & past.past.kept.keys())
    unknown = past.hours(chain)[1]
    out.print(table(found, steps, time, bool(unknown)))
    if unknown:
        out.print(f"  not counted, for nothing is known of them: {', '.join(run.kind for run in unknown)}")
    left = time.planned - there + time.confirming
    tell_wall(found, left, gpus)
    keep_to(typed.space, left / 3600, budget, bool(unknown))


def tell_chain(chain: list[StageRun], common: frozenset[str], past: Forecast) -> None:
    """Which stages every trial shares, and which it has of its own."""
    once = [run.name for run in chain if run.fingerprint in common]
    there = [run.name for run in chain if run.fingerprint in common and run.fingerprint in past.past.kept]
    out.print(
        f"once for all trials: {', '.join(once) or 'nothing'}" + (f"; there: {', '.join(there)}" if there else "")
    )
    out.print(f"in every trial: {', '.join(run.name for run in chain if run.fingerprint not in common)}")


def table(found: Declared, steps: Prospect, time: Prospect, more: bool) -> Table:
    """Updates and time, three ways, each as a share of the first."""
    right = [Column(c, justify="right") for c in ("updates", "time", "of the naive updates")]
    shown = Table("way", *right)
    ways = [("every trial end to end", steps.naive, time.naive), ("shared stages once", steps.reuse, time.reuse)]
    if found.sweep.halving and steps.pruned is not None and time.pruned is not None:
        comes = " → ".join(f"{n:.3g}" for n in reaching(found.sweep))
        rungs = " → ".join(map(str, found.sweep.halving.rungs))
        ways.append((f"and rungs: {comes} trials to {rungs} updates", steps.pruned, time.pruned))
        shown.caption = LEARNT if found.sweep.halving.ends and not found.sweep.halving.in_turn else None
    if confirm := found.sweep.confirm:
        what = f"confirmation: {confirm.top} trials and the default, {len(confirm.seeds)} seeds each"
        ways.append((what, steps.confirming, time.confirming))
    for way, updates, seconds in ways:
        share = f"1/{steps.naive / updates:.3g}" if updates else ""
        told = (f"{spoken(seconds)}{' and more' if more else ''}") if seconds else "unknown"
        shown.add_row(way, f"{updates:,.0f}", told, share)
    return shown


def tell_wall(found: Declared, left: float, gpus: int) -> None:
    """How long it would take with so many trials at once, what is in the store already left out."""
    if left:
        too = ", the confirmation too" if found.sweep.confirm else ""
        out.print(f"{gpus} at once: over after about {spoken(left / gpus)}{too}")


def keep_to(name: str, hours: float, budget: float | None, unknown: bool) -> None:
    """Raises StorageError where the plan takes more than the budget, or where nobody can say."""
    if budget is None:
        return
    if hours > budget:
        raise StorageError(name, f"{hours:.4g} GPU-hours to run", f"a budget of {budget:g}")
    if unknown:
        raise StorageError(name, "some hours are unknown", "a store with such runs; else no budget")
