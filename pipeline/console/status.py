"""What the command ``status`` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipeline.console.run_state import is_healthy, run_line, trouble_lines
from pipeline.console.tables import camera_errors, cameras_table, print_object
from pipeline.errors import BadInputError, RedisError
from pipeline.signals import caught_signals, forget_signal
from pipeline.sinks.redis_reader import read_statuses
from pipeline.sinks.redis_trouble import is_away
from pipeline.sinks.run_status import read_run

_RENEW_EVERY_S = 1.0


def show_status(url: str, *, as_json: bool, out: Console, err: Console) -> bool:
    """Print how the newest run and its cameras stand.

    Args:
        url: address of its Redis.
        as_json: one JSON object per line, the run's first.
        out: for how it stands.
        err: for what is wrong.

    Returns:
        Whether the run goes on, or ended in good order.

    Raises:
        RedisError: nobody answers there, or what stands there is none of ours; what can be read is shown before.
    """
    try:
        run = read_run(url)
    except RedisError as error:
        if is_away(error) or as_json:  # whose first line would be the run's
            raise
        out.print(cameras_table(read_statuses(url).values(), "cameras"))
        raise
    print_object(run or {"run": None}, lambda _: Text(run_line(run)), as_json=as_json, out=out)
    statuses = list(read_statuses(url).values())
    if as_json:
        for said in statuses:
            print_object(said, str, as_json=True, out=out)
        return is_healthy(run)
    out.print(cameras_table(statuses, _as_of(run)))
    for line in _wrong(run, statuses):
        err.print(line, markup=False, highlight=False)
    return is_healthy(run)


def watch_status(url: str, *, out: Console) -> bool:
    """Show how the newest run and its cameras stand, renewed every second, until Ctrl-C.

    Args:
        url: address of its Redis.
        out: a terminal.

    Returns:
        Whether the run went on then, or had ended in good order.

    Raises:
        BadInputError: there is no terminal.
        RedisError: nobody answers at first, or what stands there is none of ours.
    """
    if not out.is_terminal:
        raise BadInputError("--watch: expected a terminal, got a file or a pipe: `status --json` is for scripts")
    run, statuses = read_run(url), list(read_statuses(url).values())
    terminal = Console(file=out.file)  # folds long lines itself, or it could not go back to where it began
    with caught_signals() as signals, Live(console=terminal, auto_refresh=False, vertical_overflow="crop") as live:
        wrong: list[str] = []
        while True:
            live.update(_view(run, statuses, wrong), refresh=True)
            if signals.stop.wait(_RENEW_EVERY_S):
                break
            try:
                run, statuses, wrong = read_run(url), list(read_statuses(url).values()), []
            except RedisError as error:  # what was read last stays
                wrong = [str(error)]
    forget_signal()
    return is_healthy(run)


def _view(run: Mapping[str, Any] | None, statuses: list[dict[str, Any]], wrong: list[str]) -> Group:
    lines = [*wrong, *_wrong(run, statuses)]
    return Group(
        Text(run_line(run), "" if is_healthy(run) else "bold red"),
        cameras_table(statuses, _as_of(run)),
        *(Text(line, "yellow") for line in lines),
    )


def _as_of(run: Mapping[str, Any] | None) -> str:
    return "cameras" if run is None or run["is_alive"] else "cameras, as they stood then"


def _wrong(run: Mapping[str, Any] | None, statuses: list[dict[str, Any]]) -> list[str]:
    return [*trouble_lines(run), *camera_errors(statuses)]
