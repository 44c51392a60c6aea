"""What ``status`` shows where somebody else writes under our keys, too."""

import contextlib
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.console.status import show_status
from pipeline.errors import RedisError
from pipeline.sinks.run_status import RunStatusWriter

ROOT = Path(__file__).parents[2]


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


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            program = [sys.executable, str(ROOT / "run_cluster.py"), *arguments]
            os.execve(sys.executable, program, {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"})
        self.seen = ""

    def wait_for(self, text, longest_s=60.0):
        """Read until a text was shown since the last call; what was shown, without what moves and colours it."""
        give_up_at = time.monotonic() + longest_s
        while text not in self.seen:
            assert time.monotonic() < give_up_at, self.seen
            if select.select([self._file], [], [], 0.1)[0]:
                self.seen += os.read(self._file, 1 << 16).decode(errors="replace")
        seen, self.seen = self.seen, ""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)

    def interrupt(self):
        """Ctrl-C; gives the exit code."""
        os.write(self._file, b"\x03")
        give_up_at = time.monotonic() + 60.0
        while True:
            with contextlib.suppress(OSError):  # it has closed its end
                if select.select([self._file], [], [], 0.05)[0]:
                    os.read(self._file, 1 << 16)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self._file)
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < give_up_at


def test_a_watched_status_is_renewed_until_ctrl_c_and_ends_as_status_would(lasting_server, tmp_path):
    lasting_server.client().flushall()
    config = tmp_path / "cameras.yaml"
    config.write_text(json.dumps({"redis": {"url": lasting_server.url}}))
    watched = ("status", "--watch", "--config", str(config))
    gate = {"camera_id": "gate", "state": "opening", "decoded": 1}
    with RunStatusWriter(lasting_server.url, "run-1") as told:
        told.write("running", {}, {"gate": gate})
        terminal = Terminal(*watched)
        terminal.wait_for("opening")
        told.write("running", {"troubles": [f"{'x' * 300} no disk"]}, {"gate": {**gate, "state": "streaming"}})
        seen = terminal.wait_for("no disk")
        assert max(map(len, re.split(r"[\r\n]+", seen))) <= 120  # a longer one takes two, and the table jumps
        assert terminal.interrupt() == 0
        told.write("failed", {}, {"gate": gate}, "it failed")
    terminal = Terminal(*watched)
    terminal.wait_for("it failed")
    assert terminal.interrupt() == 1


@pytest.mark.parametrize(
    ("also", "line"), [((), "--watch: expected a terminal, got a file or a pipe"), (("--json",), "got both")]
)
def test_a_status_that_cannot_be_watched_is_refused_in_one_line(lasting_server, tmp_path, also, line):
    config = tmp_path / "cameras.yaml"
    config.write_text(json.dumps({"redis": {"url": lasting_server.url}}))
    command = [sys.executable, ROOT / "run_cluster.py", "status", "--watch", "--config", config, *also]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert line in done.stderr
