"""Several workers that fit one model, each a thread with a real connection to the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch.distributed import HashStore, ProcessGroupGloo

from pipeline.training.workers import Workers

WITHIN = timedelta(seconds=120)


def in_group(count: int, work: Callable[[Workers], Any]) -> list[Any]:
    """What ``work`` gives at every worker, by rank; an error of one is raised."""
    store, found, errors = HashStore(), [None] * count, []

    def run(rank: int) -> None:
        try:
            found[rank] = work(Workers(ProcessGroupGloo(store, rank, count, WITHIN)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found
