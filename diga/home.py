"""Where generated things and data live: $DIGA_HOME, and $DIGA_DATA inside it unless set."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The run home, absolute: $DIGA_HOME, else ./diga-home.  Nothing is created."""
    return Path(os.environ.get("DIGA_HOME") or "diga-home").expanduser().absolute()


def data_root() -> Path:
    """The folder domains are paths under, absolute: $DIGA_DATA, else `home()/data`."""
    named = os.environ.get("DIGA_DATA")
    return Path(named).expanduser().absolute() if named else home() / "data"
