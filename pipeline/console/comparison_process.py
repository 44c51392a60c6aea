"""What `compare` does in processes of its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from pipeline.child import end_with_parent
from pipeline.console.standard_streams import use_sound_streams
from pipeline.errors import RunError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_subprocess(
    work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    """Do some work in a fresh process and give back its result; errors of ours come back as they were raised.

    It ends with this process, and at once where this one is interrupted.

    Args:
        work: a function that can be imported by name.
        arguments: its arguments, which are pickled.
        named: the same.

    Raises:
        RunError: the process died, most likely for want of memory.
    """
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(os.getpid(),)) as pool:
            try:
                return pool.submit(work, *arguments, **named).result()
            except KeyboardInterrupt:  # by a signal that it was perhaps not sent; leaving the block waits for its end
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
    except BrokenProcessPool:
        what = work.__name__.strip("_")
        raise RunError(f"compare: expected the process '{what}' to end by itself, got one that was killed") from None


def _begin(parent: int) -> None:
    end_with_parent(parent)
    use_sound_streams()
