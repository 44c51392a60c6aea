"""What `compare` does in processes of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from pipeline.child import end_with_parent
from pipeline.console.standard_streams import use_sound_streams
from pipeline.errors import RunError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_subprocess(
    work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    """Do some work in a fresh process and give back its result; errors of ours come back as they were raised.

    It ends with this process, and at once where this one is interrupted. A pool of one process would wait for it then,
    and needs semaphores, which a machine without ``/dev/shm`` does not have.

    Args:
        work: a function that can be imported by name.
        arguments: its arguments, which are pickled.
        named: the same.

    Raises:
        RunError: the process died, most likely for want of memory.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(os.getpid(), sender, work, arguments, named))
    process.start()
    sender.close()  # or its end would not be the end of what can be received
    try:
        result, error = receiver.recv()
    except EOFError:
        what = work.__name__.strip("_")
        raise RunError(f"compare: expected the process '{what}' to end by itself, got one that was killed") from None
    except BaseException:  # nothing of a step that was interrupted is kept
        process.kill()
        raise
    finally:
        receiver.close()
        process.join()
    if error is not None:
        raise error
    return result


def _work(
    parent: int, sender: Connection, work: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    end_with_parent(parent)
    use_sound_streams()
    try:
        done = work(*arguments, **named), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        done = None, error
    except KeyboardInterrupt:  # a terminal tells all its processes, the one that waits for us, too
        return
    with contextlib.suppress(BrokenPipeError):  # it no longer does
        sender.send(done)
