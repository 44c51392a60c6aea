"""What a sink wrote into Redis, and how it counts that."""

from pipeline.sinks.redis_reader import read_alerts, read_scores
from pipeline.sinks.redis_stream import RedisStats


def numbers(url) -> list[int]:
    """Numbers of the alerts that arrived, in the stream's order."""
    return [entry["peak_index"] for entry in read_alerts(url)]


def indices(url, camera_id="gate") -> list[int]:
    return [entry["index"] for entry in read_scores(url, camera_id, count=100_000)]


def stats(scores_delivered=0, alerts_delivered=0, *, scores_dropped=0) -> RedisStats:
    """All that was written and not dropped was delivered."""
    return RedisStats(
        scores_delivered=scores_delivered,
        scores_dropped=scores_dropped,
        scores_waiting=0,
        alerts_carried_over=0,
        alerts_emitted=alerts_delivered,
        alerts_delivered=alerts_delivered,
        alerts_dropped=0,
        alerts_waiting=0,
    )
