"""Which parameters mattered, by two methods of Optuna's; the only module of this floor that knows Optuna.

fANOVA (Hutter et al., 2014): shares of the variance of a random forest over the whole space, of parameters that every
trial was asked for.  PED-ANOVA (Watanabe et al., 2023): how far the best tenth of the trials lies from all, parameter
by parameter, conditional ones too (its form for such spaces, 2026).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from diga.report.search import ENOUGH, Search, tupled

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

    from diga.space import Dimension

Method = Literal["fANOVA", "PED-ANOVA"]
METHODS: tuple[Method, ...] = ("fANOVA", "PED-ANOVA")


def importances(search: Search, method: Method) -> dict[str, float]:
    """Shares of the main objective's parameters by path, which add up to one; none of too few or of equal trials.

    fANOVA leaves out whatever some trial was not asked for.
    """
    values = search.compared.values
    if len(values) < ENOUGH or len(set(values.values())) < 2:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    evaluator = FanovaImportanceEvaluator(seed=0) if method == "fANOVA" else PedAnovaImportanceEvaluator()
    study = _study(search, values)
    asked = [set(trial.params) for trial in study.trials]
    paths = sorted(set.intersection(*asked) if method == "fANOVA" else set.union(*asked))
    if not paths:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a method is experimental: tables name it
        found = get_param_importances(study, evaluator=evaluator, params=paths)
    return {path: float(share) for path, share in found.items()}


def conditional(search: Search) -> list[str]:
    """Paths that some trial of those was not asked for."""
    values = search.compared.values
    return [path for path in search.paths if any(path not in search.params[n] for n in values)]


def _study(search: Search, values: Mapping[int, float]) -> Study:
    """An Optuna study in memory that holds these trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "maximize" if search.main.direction == "max" else "minimize"
    study = optuna.create_study(direction=direction)
    known = {d.path: d for d in search.dimensions}
    for n, value in values.items():
        params = {path: _as_asked(v, known[path]) for path, v in search.params[n].items() if path in known}
        distributions = {path: _distribution(known[path]) for path in params}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return study


def _as_asked(value: Any, dimension: Dimension) -> Any:
    """A value as the dimension has it: JSON makes lists of tuples, and Optuna knows no tuple."""
    return dimension.choices.index(tupled(value)) if dimension.kind == "categorical" else value


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna import distributions as kinds

    if dimension.kind == "categorical":
        return kinds.CategoricalDistribution(tuple(range(len(dimension.choices))))
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.kind == "float":
        return kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    return kinds.IntDistribution(
        int(dimension.low), int(dimension.high), log=dimension.log, step=int(dimension.step or 1)
    )
