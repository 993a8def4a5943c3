"""What a tracking store answers when it refuses, in one line and without anybody's password."""

from __future__ import annotations

import re

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from diga.errors import StorageError, TemporaryError

REFUSALS = (MlflowException, SQLAlchemyError, OSError, ImportError)  # of a store, its database, its driver


def refusal(uri: str, failure: Exception) -> StorageError | TemporaryError:
    """What to answer when MLflow cannot be used: one line that names the store."""
    why = first_line(failure)
    if "database is locked" in str(failure):
        return TemporaryError(without_password(uri), why, "the process that holds it; try again when it is done")
    return StorageError(without_password(uri), why, "an MLflow store that answers and can be written")


def without_password(uri: str) -> str:
    """The address without a user's name and password."""
    return re.sub(r"//[^/@\s]+@", "//", uri)


def first_line(failure: Exception) -> str:
    """The first line of an exception's text."""
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0][:300]
