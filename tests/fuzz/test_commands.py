"""What `alerts` and `status` print of entries that others wrote under our keys: a table, lines, or one clear error."""

import json
import sys

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import run_cluster
from pipeline.console.alert_lines import alert_line
from pipeline.console.tables import camera_errors, cameras_table
from pipeline.errors import CflowError
from tests.fuzz.targets import foreign_runs, foreign_statuses, redis_fields, redis_values


@pytest.fixture(scope="module")
def client(lasting_server):
    return redis.Redis.from_url(lasting_server.url)  # bytes in, bytes out


@pytest.fixture(scope="module")
def config(lasting_server, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "c.yaml"
    path.write_text(json.dumps({"redis": {"url": lasting_server.url}}))
    return path


def printed(config, *arguments):
    """What a command prints; an error must be one line."""
    done = CliRunner().invoke(run_cluster.app, [*arguments, "--config", str(config)])
    if isinstance(done.exception, CflowError):
        assert str(done.exception).isprintable(), str(done.exception)
    elif done.exception is not None and not isinstance(done.exception, SystemExit):  # the run is lost
        raise done.exception
    return done.output


def printed_of(config, client, field, alert, status, run=None):
    client.flushall()
    client.xadd("cflow:alerts", {field: alert}, id="5-0")
    client.hset("cflow:cameras", field, status)
    if run is not None:
        client.set("cflow:run", run)
    return [printed(config, command, *more) for command in ("alerts", "status") for more in ((), ("--json",))]


@settings(max_examples=60)
@given(field=redis_fields, alert=redis_values, status=foreign_statuses | redis_values, run=foreign_runs | redis_values)
def test_foreign_entries_are_printed_or_named(config, client, field, alert, status, run):
    for output in printed_of(config, client, field, alert, status, run):
        assert "\x1b[" not in output  # into a pipe, nothing is coloured: this came from the entry


@settings(max_examples=150)
@given(status=foreign_statuses.map(json.loads))
def test_any_object_has_a_row(status):
    assert cameras_table([status], "cameras").row_count == 1
    assert all(line.isprintable() for line in camera_errors([status]))


@settings(max_examples=150)
@given(alert=st.dictionaries(st.text(max_size=5), st.text(max_size=5)) | foreign_statuses.map(json.loads))
def test_any_object_is_one_line(alert):
    assert alert_line(alert).plain.isprintable()


def test_numbers_that_no_float_holds_are_left_out():
    most = int(sys.float_info.max)
    status = {
        "decoded": 10**400,
        "missing": 1,
        "dropped": {"stale": most, "corrupt": most, "overload": 0.5, "late": 10**400},
    }
    table = cameras_table([status], "cameras")
    assert [next(iter(column.cells)).plain.split(" (")[0] for column in table.columns[2:5]] == ["-", "-", "-"]
    assert camera_errors([status]) == [f"camera -: {most} frames came damaged; - were scored"]
    line = alert_line({"kind": "end", "start_s": 10**400, "end_s": 1, "since_at_s": -most, "until_at_s": most})
    assert line.plain == "- end    run: after inf s  -"


@pytest.mark.parametrize("state", ["[/red]", "\x1b[2J", "two\nlines"])
def test_a_state_that_a_terminal_or_rich_would_obey_is_shown_as_it_is(config, client, state):
    status = json.dumps({"camera_id": "gate", "state": state})
    output = printed_of(config, client, b"json", b"{}", status.encode())[2]
    assert "gate" in output
    assert "\x1b" not in output
    assert state.encode("unicode_escape").decode() in output


def test_half_of_a_surrogate_pair_is_printed_as_its_number(config, client):
    alert = rb'{"kind": "new", "event_id": "x", "emitted_at_s": 1, "camera_id": "\ud800"}'
    assert "\\ud800" in printed_of(config, client, b"json", alert, b"{}")[0]
