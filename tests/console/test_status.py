"""What ``status`` shows where somebody else writes under our keys, too."""

import io

import pytest
from rich.console import Console

from pipeline.console.status import show_status
from pipeline.errors import RedisError


def test_an_entry_of_somebody_else_hides_no_other(lasting_server, caplog):
    client = lasting_server.client()
    client.flushall()
    client.hset("cflow:cameras", mapping={"gate": "mine", "yard": '{"camera_id": "yard", "state": "streaming"}'})
    out, err = Console(file=io.StringIO()), Console(file=io.StringIO())
    assert not show_status(lasting_server.url, as_json=False, out=out, err=err)
    shown = out.file.getvalue()
    assert ("yard" in shown, "gate" in shown, "cflow:cameras: 'gate': expected" in caplog.text) == (True, False, True)
    client.rename("cflow:cameras", "mine")
    client.set("cflow:cameras", "mine")
    out = Console(file=io.StringIO())
    with pytest.raises(RedisError, match="cflow:cameras; somebody else's value"):
        show_status(lasting_server.url, as_json=False, out=out, err=err)
    assert "run: none has written here" in out.file.getvalue()
    client.rename("mine", "cflow:cameras")
    client.set("cflow:run", "mine")
    out = Console(file=io.StringIO())
    with pytest.raises(RedisError, match="cflow:run: expected a JSON object"):
        show_status(lasting_server.url, as_json=False, out=out, err=err)
    assert "yard" in out.file.getvalue()
