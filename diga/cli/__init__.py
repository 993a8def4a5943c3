"""The command line: `diga --help`.

Every user's error is one line on standard error and the exit code of `diga.errors`; `--debug` shows
where it came from.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from diga import __version__
from diga.cli import data, doctor, look, report, work
from diga.errors import DigaError

app = typer.Typer(
    name="diga",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""DiGA and DDB for domain adaptive semantic segmentation, from recipe to results table.

    A first session, on a laptop, with no dataset:

      diga data make streets          an embedded benchmark of two domains
      diga plan diga:table3           what the study would run, and what it would cost
      diga ablate diga:table3         run it; stop it and type it again as you like
      diga report table3              its tables and figures

    Everything generated goes under $DIGA_HOME (./diga-home), datasets are read from $DIGA_DATA
    ($DIGA_HOME/data). Exit codes: 0 done, 2 usage, 3 data, 4 storage, 5 diverged, 6 finished with
    failed cells, 75 try again, 130/143 stopped.""",
)
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)
app.command("list")(look.list_)
app.command("show")(look.show)
app.command("plan")(look.plan)
app.command("status")(look.status)
app.command("run")(work.run)
app.command("ablate")(work.ablate)
app.command("report")(report.report)
app.command("serve")(report.serve)


def version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        typer.echo(f"diga {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Options that stand before the command."""
    if debug:
        os.environ["DIGA_DEBUG"] = "1"


def terminated(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM unwinds like Ctrl-C, so that what is under way is closed in order."""
    raise SystemExit(128 + number)


def main() -> None:
    """Entry point of the `diga` command."""
    signal.signal(signal.SIGTERM, terminated)
    try:
        app()
    except DigaError as failure:
        if os.environ.get("DIGA_DEBUG"):
            raise
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(failure.code)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on from here", file=sys.stderr)
        sys.exit(130)
