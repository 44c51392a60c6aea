"""The scorer's protocol in miniature, on the real sinks, in a process that can be killed between any two steps.

``python -m tests.faults.small_scorer FOLDER URL DIE_AT``: reads numbers of adds from standard input, acknowledges each
on standard output, closes at the end of input and says what was counted. ``DIE_AT`` is ``STEP:COUNT`` (SIGKILL when
that step is passed for the COUNT-th time), or ``-``.
"""

import fcntl
import json
import os
import signal
import sys
from pathlib import Path

from pipeline.sinks.alert_queue import AlertQueue
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.redis_stream import RedisSink
from pipeline.sinks.run_store import RunStore
from tests.sinks.made import START_S, alert, score

CAMERAS = ("gate", "yard")
PER_ADD = 10
STEPS = (
    "computed",
    "file written",
    "journal created",
    "journaled",
    "committed",
    "queued",
    "ids chosen",
    "sent",
    "delivered",
    "acknowledged",
)
"""In the order in which an add passes them; those about alerts happen in the writer's thread."""


class Death:
    """Kills this process at a step."""

    def __init__(self, die_at: str) -> None:
        self.step, _, count = die_at.partition(":")
        self.left = int(count or 0)

    def passed(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class DyingQueue:
    """A sink's end of the outbox, in which the process may die around the steps of a delivery."""

    def __init__(self, queue: AlertQueue, death: Death) -> None:
        self._queue = queue
        self._death = death

    def __getattr__(self, name: str):
        return getattr(self._queue, name)

    def keep_receipts(self, receipts, mark):
        kept = self._queue.keep_receipts(receipts, mark)
        self._death.passed("ids chosen")
        return kept

    def ack(self, alerts):
        self._death.passed("sent")
        self._queue.ack(alerts)
        self._death.passed("delivered")


class SmallScorer:
    """A camera's state is its last frame and how many alerts it has raised: whatever is lost or doubled shows."""

    def __init__(self, folder: Path, url: str, death: Death) -> None:
        self.death = death
        self.store = RunStore(folder / "run.sqlite", "run", ["redis"])
        self.states = {camera_id: json.loads(text) for camera_id, text in self.store.states().items()}
        confirmed = {camera_id: tuple(state["last"]) for camera_id, state in self.states.items()}
        self.redis = RedisSink(url, alerts=DyingQueue(self.store.alerts("redis"), death))  # pyright: ignore[reportArgumentType]
        self.parquet = ParquetSink(folder / "scores", maps=False, rotate_s=0.0, run="run", confirmed=confirmed)

    def add(self, number: int) -> None:
        scores, alerts = [], []
        for index in range(PER_ADD * number, PER_ADD * (number + 1)):
            for camera_id in CAMERAS:
                state = self.states.setdefault(camera_id, {"last": [0, -1], "alerts": 0})
                if index <= state["last"][1]:
                    continue
                state["last"] = [0, index]
                scores.append(score(index, camera_id=camera_id))
                if index % 5 == 0:
                    at_s = START_S + number  # several share a millisecond
                    alerts.append(alert(state["alerts"], camera_id=camera_id, emitted_at_s=at_s))
                    state["alerts"] += 1
        self.death.passed("computed")
        self.parquet.write(scores)
        self.death.passed("journaled")
        self.store.commit({camera_id: json.dumps(state) for camera_id, state in self.states.items()}, alerts)
        self.death.passed("committed")
        self.redis.write(scores)
        self.redis.wake()
        self.death.passed("queued")

    def close(self) -> None:
        self.parquet.close()
        self.redis.close()
        self.store.end_run()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    death = Death(sys.argv[3])
    replace = os.replace

    def replace_and_maybe_die(staged, target):
        replace(staged, target)
        if str(target).endswith(".parquet"):
            death.passed("file written")

    os.replace = replace_and_maybe_die  # which ``Path.replace`` calls
    lock = fcntl.flock

    def maybe_die_and_lock(file, how):
        if how == fcntl.LOCK_EX:
            death.passed("journal created")
        lock(file, how)

    fcntl.flock = maybe_die_and_lock
    scorer = SmallScorer(Path(sys.argv[1]), sys.argv[2], death)
    for line in sys.stdin:
        scorer.add(int(line))
        say(line.strip())
        death.passed("acknowledged")
        if death.step in ("ids chosen", "sent", "delivered"):
            scorer.redis.flush()  # or the next add might come first
    scorer.close()
    counts = scorer.store.alerts("redis").counts
    say(json.dumps([counts.emitted, counts.delivered, counts.dropped, counts.waiting]))


if __name__ == "__main__":
    main()
