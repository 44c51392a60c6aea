import fcntl
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.console.standard_streams import OutputFile

ROOT = Path(__file__).parents[2]
# Prints where the first file leads that is opened afterwards, so that nothing is printed into it.
OPENS_A_FILE = """
import os, sys
from pipeline.console.standard_streams import use_sound_streams
use_sound_streams()
with open(sys.argv[1], "w") as file:
    file.write("data")
    file.flush()
    print("result")
    print("message", file=sys.stderr)
    os.system("echo from a child; echo from a child >&2")
"""
CAMERA = "Straße \u2013 \ud800"


def test_results_that_cannot_be_written_are_an_error_once_and_messages_never_are():
    with Path("/dev/full").open("wb") as full:
        results, messages = (OutputFile(full.fileno(), is_needed=needed) for needed in (True, False))
        with pytest.raises(OSError, match="No space left on device: 'standard output'"):
            results.write(b"a table")
        assert results.write(b"what was still buffered") == 23
        assert messages.write(b"half way") == 8


def test_whoever_reads_results_and_has_enough_ends_the_command_as_sigpipe_does():
    reads, writes = os.pipe()
    os.close(reads)
    results, messages = (OutputFile(writes, is_needed=needed) for needed in (True, False))
    with pytest.raises(SystemExit) as ended:
        results.write(b"a table")
    assert ended.value.code == 128 + signal.SIGPIPE
    assert messages.write(b"half way") == 8
    os.close(writes)


@pytest.mark.parametrize("is_needed", [True, False])
def test_a_stream_that_its_other_holders_made_non_blocking_takes_everything(is_needed):
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    data = bytes(10 * fcntl.fcntl(writes, fcntl.F_GETPIPE_SZ))
    taken = []

    def take():
        while some := os.read(reads, 4096):
            taken.append(some)

    reader = threading.Thread(target=take)
    with io.BufferedWriter(OutputFile(writes, is_needed=is_needed)) as stream:
        reader.start()
        stream.write(data)
    os.close(writes)
    reader.join()
    os.close(reads)
    assert b"".join(taken) == data


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_nothing_is_printed_into_a_file_that_takes_the_place_of_a_closed_stream(tmp_path, closed):
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", OPENS_A_FILE, str(tmp_path / "file")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (tmp_path / "file").read_text() == "data"
    assert done.stdout in ("result\nfrom a child\n", "from a child\nresult\n", "")
    assert done.stderr in ("message\nfrom a child\n", "")


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"Stra\xdfe \u2013 \ud800"), ("utf-8", "Straße – \\ud800")])
def test_letters_that_a_stream_does_not_have_are_written_as_their_numbers(encoding, shown):
    code = f"from pipeline.console.standard_streams import *; use_sound_streams(); print({CAMERA!r})"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout.decode() == f"{shown}\n"
