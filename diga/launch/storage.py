"""Where the trials of a sweep are kept: a journal under the run home, or a database by its address; and samplers.

A journal is Optuna's own file of lines: `optuna-dashboard <run home>/sweeps/<sweep>/journal.log` shows it.
"""

from __future__ import annotations

import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock, JournalStorage
from optuna.storages.journal._file import get_lock_file
from sqlalchemy.exc import SQLAlchemyError

from diga.errors import StorageError
from diga.files import slug, write_whole
from diga.launch.answers import first_line, without_password
from diga.lease import POLL, Lease
from diga.space import Dimension
from diga.sweep import Sampler, Sweep

JOURNAL = "journal.log"
STALE = 10  # seconds after which the lock of a writer that was killed is taken
PATIENCE = 120.0  # seconds a database may be away while a sweep goes on
AGAIN = 0.5  # seconds between two tries
REFUSALS = (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError)
T = TypeVar("T")

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def folder_of(home: Path, name: str) -> Path:
    """What a sweep keeps under the run home, beside finished stages."""
    return home / "sweeps" / slug(name)


def name_of(home: Path) -> str:
    """The run home's own name, whatever its path is on this machine: made once."""
    folder = home / "sweeps"
    with one_at_a_time(folder):
        if not (file := folder / "home.id").exists():
            write_whole(file, uuid.uuid4().hex[:12].encode())
        return file.read_text()


def storage_at(url: str | None, folder: Path) -> BaseStorage:
    """The storage at an address such as postgresql://…, or the journal in a folder.

    Raises StorageError, one line without a password, for one that cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder):  # two would make the same tables
            return journal(folder / JOURNAL) if url is None else RDBStorage(url, engine_kwargs=engine(url))
    except (*REFUSALS, ImportError, ValueError) as failure:
        with suppress(OSError):
            folder.rmdir()
        where = without_password(url or str(folder))
        raise StorageError(where, first_line(failure), "a database that answers, or no --storage") from failure


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """While the block runs, no other driver is in such a block; one that has died is in none."""
    lock = Lease(folder / "lock")
    while not lock.try_take():
        time.sleep(POLL / 10)
    with lock.beating():
        yield


def engine(url: str) -> dict[str, Any]:
    """Of a server: a connection that hangs is given up, and a kept one asked first: it may have been restarted."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 60}}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 5}}


class Lock(JournalFileSymlinkLock):  # type: ignore[misc]
    """Optuna's lock of a journal; whoever takes it cuts the line that a killed writer, or a full disk, left half."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), grace_period=STALE)
        self.path = path

    def acquire(self) -> bool:
        """Wait for the lock, then see to the file."""
        taken = bool(super().acquire())
        if self.path.exists():
            mend(self.path)
        return taken


def journal(path: Path) -> JournalStorage:
    """The journal, whole lines alone."""
    lock = Lock(path)
    with get_lock_file(lock):
        pass
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def mend(path: Path) -> None:
    """Cut a file after its last whole line."""
    with path.open("rb+") as file:
        if not file.seek(0, os.SEEK_END):
            return
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            os.fsync(file.fileno())


def patiently(work: Callable[[], T], where: str, patience: float = PATIENCE) -> T:
    """`work`, tried again while its storage is away.  It must be such that doing it twice is doing it once.

    Raises StorageError when patience is over.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except REFUSALS as failure:
            if time.monotonic() > deadline:
                what = f"no answer for {patience:.0f} s: {first_line(failure)}"
                raise StorageError(where, what, "type the same command again when it answers") from failure
            time.sleep(AGAIN)


# --- parameters and samplers ---------------------------------------------------------------------


def distribution(d: Dimension) -> Any:
    """A parameter as Optuna has it."""
    if d.kind == "categorical":
        return optuna.distributions.CategoricalDistribution(d.choices)
    if d.kind == "int":
        low, high, step = int(d.low or 0), int(d.high or 0), int(d.step or 1)
        return optuna.distributions.IntDistribution(low, high, log=d.log, step=step)
    return optuna.distributions.FloatDistribution(d.low or 0.0, d.high or 0.0, log=d.log, step=d.step)


def sampler_of(sweep: Sweep, number: int, path: str = "", before: BaseSampler | None = None) -> BaseSampler:
    """The sampler of trial `number`, or of one of its parameters.

    Its chance is a function of the sweep's seed, the trial's number and the parameter, so that a search which was
    stopped goes on as it would have: what else it goes by are the trials that are finished.  What every one of those
    was asked for is taken over from the sampler `before`: to go through a thousand again takes longer than all else.
    """
    seed = (sweep.seed * 1_000_003 + number + crc32(path.encode())) % 2**32
    warmth = min(10, max(4, sweep.trials // 4))  # trials at random before a model is believed
    makers: dict[Sampler, Callable[[], BaseSampler]] = {
        "tpe": lambda: TPESampler(seed=seed, n_startup_trials=warmth),
        "random": lambda: RandomSampler(seed=seed),
        "gp": lambda: GPSampler(seed=seed, n_startup_trials=warmth, warn_independent_sampling=False),
        "cmaes": lambda: CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False),
        "nsga2": lambda: NSGAIISampler(seed=seed, population_size=max(4, min(50, sweep.trials // 4))),
    }
    made = makers[sweep.sampler]()
    if isinstance(made, TPESampler) and isinstance(before, TPESampler):
        made._search_space = before._search_space
    return made


class Draws:
    """A trial of Optuna whose every parameter has a chance of its own: half a setting is completed as it was begun."""

    def __init__(self, trial: optuna.Trial, sweep: Sweep, number: int) -> None:
        self.trial, self.sweep, self.number = trial, sweep, number

    def _of(self, name: str) -> Any:
        study = self.trial.study
        if name not in self.trial.relative_params:  # those were drawn together, by the chance of the trial
            study.sampler = sampler_of(self.sweep, self.number, name, study.sampler)
        return self.trial

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """As Optuna's."""
        return float(self._of(name).suggest_float(name, low, high, step=step, log=log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """As Optuna's."""
        return int(self._of(name).suggest_int(name, low, high, step=step, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As Optuna's."""
        return self._of(name).suggest_categorical(name, choices)
