"""What `compare` does in processes of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from pipeline.errors import RunError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_subprocess(
    work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    """Do some work in a fresh process and give back its result; errors of ours come back as they were raised.

    Args:
        work: a function that can be imported by name.
        arguments: its arguments, which are pickled.
        named: the same.

    Raises:
        RunError: the process died, most likely for want of memory.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(work, *arguments, **named).result()
    except BrokenProcessPool:
        what = work.__name__.strip("_")
        raise RunError(f"compare: expected the process '{what}' to end by itself, got one that was killed") from None
