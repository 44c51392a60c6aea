"""Commands about alerts: reading them, and saying what they were worth."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from actors.addressed_run import ask, readable_redis
from pipeline.console.options import JsonOption, ServiceNameOption, ServiceOption, WhereOption
from pipeline.console.terminal import out, say_aside
from pipeline.verdicts import VerdictKind

alerts_app = typer.Typer(help="Print alerts, and say which were real.", invoke_without_command=True)
EventArgument = Annotated[str, typer.Argument(help="Id of the event, as `alerts` prints it.")]


@alerts_app.callback(epilog="Example: cflow-stream alerts --follow --json")
def alerts(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", help="Keep waiting for new alerts until Ctrl-C.")] = False,
    as_json: JsonOption = False,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Print the alerts of the newest run (or of the config's Redis), oldest first; or say what one was worth.

    While it follows, standard error says when a run begins, ends or is lost.
    """
    if context.invoked_subcommand is not None:
        return
    from pipeline.console.alert_lines import alert_line
    from pipeline.console.run_state import run_watched
    from pipeline.console.tables import print_object
    from pipeline.sinks.redis_reader import read_alerts

    with (
        readable_redis(config, address, run, waits=follow) as url,
        run_watched(url, say_aside) if follow else nullcontext(),
    ):
        for alert in read_alerts(url, follow=follow):
            print_object(alert, alert_line, as_json=as_json, out=out)


@alerts_app.command("confirm", epilog="Example: cflow-stream alerts confirm gate-1795633777101-0-463")
def confirm(
    event: EventArgument,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Say that an event was real: it never becomes normal footage."""
    _judge(event, "confirmed", 0.0, config, address, run)


@alerts_app.command("dismiss", epilog="Example: cflow-stream alerts dismiss gate-1795633777101-0-463 --for 12h")
def dismiss(
    event: EventArgument,
    lasting: Annotated[
        str, typer.Option("--for", help="How long its like (same camera, same place) stays silent: 30m, 12h, 7d, 2w.")
    ] = "7d",
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Say that there was nothing: its like is silent for a while, and `calibrate --from-run` takes it for normal."""
    from pipeline.console.verdicts import duration_s

    _judge(event, "dismissed", duration_s(lasting), config, address, run)


@alerts_app.command("verdicts", epilog="Example: cflow-stream alerts verdicts --json > verdicts.jsonl")
def verdicts(
    as_json: JsonOption = False,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Print what was said of events, oldest first; as JSON with all that a further training needs to know of each."""
    from pipeline.console.tables import print_object
    from pipeline.console.verdicts import verdict_line
    from pipeline.verdicts import Verdict, read_verdicts

    if address is None:
        found = list(read_verdicts(_file(config)).values())
    else:
        answer = ask({"do": "verdicts"}, config, address, run)
        found = [Verdict.parse(said) for said in answer["verdicts"]]
    for verdict in sorted(found, key=lambda one: one.given_at_s):
        print_object(verdict.as_object(), verdict_line, as_json=as_json, out=out)


def _judge(
    event: str, verdict: VerdictKind, for_s: float, config: Path | None, address: str | None, run: str | None
) -> None:
    from pipeline.console.verdicts import said_of, verdict_on
    from pipeline.verdicts import add_verdict

    with readable_redis(config, address, run) as url:
        given = verdict_on(url, event, verdict, time.time(), for_s)
    if address is None:
        add_verdict(_file(config), given)
    else:
        ask({"do": "judge", "verdict": given.as_object()}, config, address, run)
    out.print(said_of(given), markup=False, highlight=False)


def _file(config: Path | None) -> Path:
    from pipeline.run_folder import RunFolder
    from pipeline.sinks.locate import state_folder

    return RunFolder(state_folder(config)).verdicts_file
