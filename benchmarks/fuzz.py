"""Fuzzing for as long as one likes: what comes from outside, broken at random, through the checks of ``tests/fuzz``.

Usage: python -m benchmarks.fuzz --minutes 60 --seed 1 [TARGET...]
Targets: configs, damaged-configs, hostile-configs, addresses, videos, models, cards, weights, redis; all by default.
The same seed tries the same cases in the same order. Each failure is printed as soon as it is found, reduced to its
smallest form; a damaged video that broke something is kept. Ends with one JSON line, and exit code 1 after any failure.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from benchmarks.machine import describe
from pipeline.inference.engine import Engine
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE
from tests.fuzz import targets
from tests.fuzz.hostile_configs import check_hostile_config, hostile_configs
from tests.fuzz.video_worker import video_worker
from tests.models.tiny import tiny_checkpoint
from tests.sinks.made import Server

_ROUND = settings(
    max_examples=200,
    derandomize=False,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
_SHOWN = 10  # failures per target: one bug has many faces

Target = tuple[st.SearchStrategy[tuple[Any, ...]], Callable[..., object]]


@contextmanager
def all_targets(folder: Path) -> Iterator[dict[str, Target]]:
    """Strategy and check of every target, with the servers, workers and files they need."""
    config, model, copy = folder / "c.yaml", folder / "model", folder / "copy"
    tiny_checkpoint(model)
    videos = targets.write_base_videos(folder)
    server = Server(folder)
    server.start()
    client = redis.Redis.from_url(server.url)
    with video_worker() as worker:
        yield {
            "configs": (st.tuples(targets.config_trees()), lambda text: targets.check_config(config, text)),
            "damaged-configs": (
                st.tuples(targets.config_bytes),
                lambda content: targets.check_config(config, content, keeps_secrets=False),
            ),
            "hostile-configs": (
                st.tuples(hostile_configs),
                lambda content: check_hostile_config(config, content),
            ),
            "addresses": (st.tuples(targets.addresses), targets.check_address),
            "videos": (
                st.tuples(st.integers(0, len(videos) - 1), targets.seeds),
                lambda which, number: targets.check_video(worker, videos, which, number, folder),
            ),
            "models": (
                st.tuples(st.sampled_from([CARD_FILE, WEIGHTS_FILE]), targets.seeds),
                lambda name, number: targets.check_damaged_model(model, copy, name, number, Engine.load),
            ),
            "cards": (
                st.tuples(targets.forgeries),
                lambda forge: targets.check_forged_card(model, copy, forge, Engine.load),
            ),
            "weights": (
                st.tuples(targets.seeds),
                lambda number: targets.check_forged_weights(model, copy, number, Engine.load),
            ),
            "redis": (
                st.tuples(targets.redis_fields, targets.redis_values),
                lambda field, value: targets.check_redis(client, server.url, field, value),
            ),
        }
    server.remove()


def run_round(target: Target, number: int, tried: Counter[str], name: str) -> BaseException | None:
    """Try some cases; returns what the smallest failing one raised."""
    strategy, check = target

    def case(arguments: tuple[Any, ...]) -> None:
        tried[name] += 1
        check(*arguments)

    try:
        seed(number)(_ROUND(given(strategy)(case)))()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it is, it is a finding
        return error
    return None


def main() -> None:
    """Try cases of every target in turn until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    tried: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    folder = Path(tempfile.mkdtemp(prefix="cflow-fuzz-"))
    end = time.monotonic() + 60.0 * options.minutes
    with all_targets(folder) as known:
        names = options.targets or list(known)
        if unknown := set(names) - known.keys():
            parser.error(f"expected targets of {', '.join(known)}, got {', '.join(sorted(unknown))}")
        rounds = 0
        while time.monotonic() < end:
            rounds += 1
            for name in names:
                error = run_round(known[name], options.seed * 1_000_003 + rounds, tried, name)
                if error is not None:
                    failed[name] += 1
                    if failed[name] <= _SHOWN:
                        print(
                            f"{name}: {error.__class__.__name__}: {error}", *getattr(error, "__notes__", ()), sep="\n"
                        )
    print(f"{'target':<18}{'cases':>10}{'failed rounds':>16}")
    for name in names:
        print(f"{name:<18}{tried[name]:>10,}{failed[name]:>16,}")
    result = {
        "benchmark": "fuzz",
        **describe(),
        "seed": options.seed,
        "minutes": options.minutes,
        "folder": str(folder),
    }
    print(json.dumps({**result, "cases": dict(tried), "failed_rounds": dict(failed)}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
