"""What the command ``status`` shows."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from pipeline.console.run_state import is_healthy, run_line, trouble_lines
from pipeline.console.tables import camera_errors, cameras_table, print_object
from pipeline.errors import RedisError
from pipeline.sinks.redis_reader import read_statuses
from pipeline.sinks.redis_trouble import is_away
from pipeline.sinks.run_status import read_run


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
    as_of = "cameras" if run is None or run["is_alive"] else "cameras, as they stood then"
    out.print(cameras_table(statuses, as_of))
    for line in [*trouble_lines(run), *camera_errors(statuses)]:
        err.print(line, markup=False, highlight=False)
    return is_healthy(run)
