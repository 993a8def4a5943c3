"""The command line: `diga --help`.

Every user's error is one line on standard error and the exit code of `diga.errors`; `--debug` shows
where it came from.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from typing import Annotated, Any, cast

import typer

from diga import __version__
from diga.cli import compare, data, doctor, keep, look, planning, promote, report, sweep, watch, work
from diga.cli.stopping import heeding
from diga.errors import ConfigError, DigaError, StorageError

UsageError = cast("type[Exception]", typer.BadParameter.__mro__[2])  # of click, wherever this version of typer keeps it
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)

app = typer.Typer(
    name="diga",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""DiGA and DDB for domain adaptive semantic segmentation, from recipe to results table.

    A first session, on a laptop, with no dataset:

      diga data make streets       an embedded benchmark of two domains
      diga plan diga:table3        what the study would run, at what cost
      diga ablate diga:table3      run it; stop it, type it again
      diga report table3           its tables and figures
      diga sweep diga.self_training   search what may vary of it

    Everything generated goes under $DIGA_HOME (./diga-home); datasets are
    read from $DIGA_DATA ($DIGA_HOME/data).

    Exit codes: 0 done, 2 usage, 3 data, 4 storage, 5 diverged, 6 finished
    with failed cells, 75 try again, 130/143 stopped.""",
)
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)
app.command("list")(look.list_)
app.command("show")(look.show)
app.command("plan")(planning.plan)
app.command("status")(watch.status)
app.command("run")(work.run)
app.command("ablate")(work.ablate)
app.command("sweep")(sweep.sweep)
app.command("promote")(promote.promote)
app.command("retry")(work.retry)
app.command("report")(report.report)
app.command("diff")(compare.diff)
app.command("gc")(keep.gc)
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


def main() -> None:
    """Entry point of the `diga` command."""
    atexit.register(gc.freeze)  # else Python spends most of a second on taking MLflow apart at the end
    with heeding() as received:
        try:
            code = outcome()
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 1
    code = next(iter(received), code)  # on its way through Ray an exit may lose its number
    if code in STOPPED:
        print("stopped; what was finished is kept, and the same command goes on from here", file=sys.stderr)
    sys.exit(code)


def outcome() -> int:
    """Carry out the command line; the exit code, after an error has been told in one line."""
    try:
        return app(standalone_mode=False, prog_name="diga") or 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except UsageError as failure:
        return misused(failure)
    except DigaError as failure:
        problem = failure
    except OSError as failure:
        problem = StorageError(failure.filename or "a file", failure.strerror or str(failure))
    except Exception as failure:  # an experiment that cannot be imported, say
        problem = DigaError(type(failure).__name__, str(failure), "nobody foresaw this; --debug shows where")
        problem.__cause__ = failure
    if os.environ.get("DIGA_DEBUG"):
        raise problem
    print(f"error: {problem}", file=sys.stderr)
    return problem.code


def misused(failure: Any) -> int:
    """One line for a command line that cannot be read; help for one that says nothing."""
    if type(failure).__name__ == "NoArgsIsHelpError":
        failure.show()
        return ConfigError.code
    command = failure.ctx.command_path if getattr(failure, "ctx", None) else "diga"
    print(f"error: {ConfigError(command, failure.format_message(), f'see {command} --help')}", file=sys.stderr)
    return ConfigError.code
