"""How any command begins and ends; the command itself is whatever code a test gives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENTRY = """
import errno, os, signal, sys, threading
from pathlib import Path
from rich.console import Console
from pipeline.console.entry import run_command
from pipeline.errors import BadInputError, RunError
def command():
    {}
    sys.exit(0)
sys.exit(run_command(command, Console(stderr=True, soft_wrap=True)))
"""
HOMELESS = "expected a user with a home, got one without: set HOME"
UNMAPPED = "libtorch_cpu.so: failed to map segment from shared object"
AS_FROM_A_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
WAITS = "print('ready', flush=True); signal.pause()"


def run(code, *, before=(), cwd=ROOT):
    return run_python(ENTRY.format(code), before=before, cwd=cwd)


def run_python(code, *, before=(), cwd=ROOT):
    return subprocess.run(
        [*before, sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False,
        timeout=60.0, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("return", 0, ""),
        ("sys.exit(1)", 1, ""),
        ("raise BadInputError('one\\ntwo')", 2, "error: one\nerror: two\n"),
        ("raise RunError('it failed')", 1, "error: it failed\n"),
        ("open('/nowhere/x')", 2, "error: /nowhere/x: No such file or directory\n"),
        ("open(b'/nowhere/\\xff')", 2, "error: /nowhere/\\udcff: No such file or directory\n"),
        ("raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))", 1, "error: No space left on device\n"),
        ("raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), '/a')", 1, "error: /a: Too many open files\n"),
        ("os.getuid = lambda: 54_321; os.environ.pop('HOME', 0); Path.home()", 2, f"error: {HOMELESS}\n"),
        ("raise MemoryError", 1, "error: out of memory\n"),
        (
            f"raise ImportError('{UNMAPPED}')",
            1,
            f"error: expected a library that can be loaded, got: {UNMAPPED}\n",
        ),
    ],
)
def test_what_is_no_fault_of_ours_is_told_in_a_line(code, exit_code, said):
    done = run(code)
    assert (done.returncode, done.stderr) == (exit_code, said)


@pytest.mark.parametrize(
    "code", ["raise OSError(errno.EBADF, 'a bug')", "raise RuntimeError('a bug')", "raise ImportError('a bug')"]
)
def test_a_fault_of_ours_shows_where_it_is(code):
    done = run(code)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "a bug" in done.stderr


def test_where_the_system_refused_is_shown_to_whoever_asks(monkeypatch):
    monkeypatch.setenv("CFLOW_TRACEBACK", "1")
    done = run("open('/nowhere/x')")
    assert done.returncode == 2
    assert "in command" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: /nowhere/x: No such file or directory"


@pytest.mark.parametrize("code", ["print('x')", "print('x' * 99_999, flush=True)"])
@pytest.mark.parametrize(
    ("to", "exit_code", "said"),
    [
        (">/dev/full", 1, "error: standard output: No space left on device\n"),
        (">&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("| (exec <&-)", 0, ""),
    ],
)
def test_results_that_nobody_takes_are_told_in_a_line_or_nobody_asked_for_them(code, to, exit_code, said):
    done = run(code, before=["/bin/sh", "-c", f'"$@" {to}', "sh"])
    assert (done.returncode, done.stderr) == (exit_code, said)


def test_that_nothing_temporary_can_be_written_is_told_in_a_line_whoever_wants_to():
    done = run("import tempfile; tempfile._candidate_tempdir_list = list; tempfile.TemporaryDirectory()")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "expected a temporary folder that can be written (TMPDIR, /tmp), found none" in done.stderr


def test_threads_that_the_system_refuses_are_told_in_a_line():
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28)); threading.stack_size(2**30); "
    done = run(code + "threading.Thread(target=print).start()")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "expected to start a thread" in done.stderr


def test_a_working_folder_that_was_deleted_is_told_in_a_line(tmp_path):
    done = run("return", cwd=tmp_path, before=["/bin/sh", "-c", f'rmdir "{tmp_path}" && exec "$@"', "sh"])
    assert done.returncode == 2
    assert done.stderr == "error: expected a working folder, got: No such file or directory; change to another one\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("is_first_process", [False, True])
def test_a_signal_ends_a_command_also_where_it_is_process_1(number, is_first_process):
    if is_first_process and os.geteuid() != 0:
        pytest.skip("only root may make a process number 1")
    start = ["unshare", "--pid", "--fork", "--kill-child"] if is_first_process else []
    code = ENTRY.format(WAITS)
    with subprocess.Popen(
        [*start, sys.executable, "-c", f"{AS_FROM_A_TERMINAL}{code}"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        if process.stdout.readline() != "ready\n":
            pytest.skip(f"this machine lets nobody make a process number 1: {process.stderr.read()}")
        os.kill(_child_of(process.pid) if is_first_process else process.pid, number)
        said = process.communicate(timeout=60.0)[1]
    assert process.returncode == 128 + number
    assert said == ("" if number == signal.SIGINT else f"ended by {number.name}\n")


def _child_of(pid):
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_an_import_which_might_take_it_for_a_fault(tmp_path, number):
    (tmp_path / "compiled.py").write_text(f"""
import os, signal, time
try:
    os.kill(os.getpid(), {number:d}); time.sleep(0)
except BaseException as error:
    raise ImportError("initialization failed") from error
print("whole", flush=True)
""")
    code = ENTRY.format(f"sys.path.append({str(tmp_path)!r}); import compiled; signal.pause()")
    done = run_python(f"{AS_FROM_A_TERMINAL}{code}")
    assert (done.returncode, done.stdout) == (128 + number, "whole\n"), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_ends_a_command_that_is_over_leaves_no_traceback(number):
    code = ENTRY.format(f"import atexit; atexit.register(lambda: (os.kill(os.getpid(), {number:d}), signal.pause()))")
    done = run_python(f"{AS_FROM_A_TERMINAL}{code}")
    assert (done.returncode, done.stderr) == (-number, "")


@pytest.mark.parametrize(("error", "exit_code"), [("RunError", 143), ("BadInputError", 2)])
def test_what_a_signal_left_undone_has_its_number_and_what_was_wrong_before_has_its_own(error, exit_code):
    done = run(f"""try:
        os.kill(os.getpid(), signal.SIGTERM); signal.pause()
    except KeyboardInterrupt:
        raise {error}('interrupted: the same command goes on from there') from None""")
    assert (done.returncode, done.stderr) == (exit_code, "error: interrupted: the same command goes on from there\n")
