import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import atexit, sys, threading
from pipeline.console.leaving import leaving_threads_behind

class Witness:
    def __del__(self):
        print("taken down")

witness = Witness()
atexit.register(print, "registered")
if {daemon}:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
with leaving_threads_behind():
    print("said")
    {end}
"""


@pytest.mark.parametrize(("end", "code"), [("pass", 0), ("sys.exit(0)", 0), ("sys.exit()", 0), ("sys.exit(2)", 2)])
@pytest.mark.parametrize("daemon", [True, False])
def test_a_process_that_a_thread_outlives_ends_with_its_code_and_all_said_before_python_is_taken_down(
    daemon, end, code
):
    program = PROGRAM.format(daemon=daemon, end=end)
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == code
    assert done.stdout.split("\n")[:-1] == ["said", "registered", *([] if daemon else ["taken down"])]
    assert done.stderr == ""
