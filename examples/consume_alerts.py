"""Read alerts as one of a group of consumers: each alert goes to one of them.

What a consumer was given and did not acknowledge, because it died, is given to it again when it comes back, or to
another one that finds it so after IDLE_S seconds (longer than anybody works on an alert): whatever a consumer does
with an alert must bear being done twice. While Redis is away it waits, and goes on where it was: at the end of this
file, where all of it is tried again, and not in the client.

Usage: python examples/consume_alerts.py [REDIS_URL] [CONSUMER_NAME] [IDLE_S]
REDIS_URL is of one server: redis://, rediss:// or unix://; for a Cluster or Sentinels make the client with
redis.RedisCluster or redis.Sentinel.
Without REDIS_URL, or with an empty one, it is the environment's: a command line with a password is shown to everybody.
Special characters of a password in REDIS_URL are percent-encoded (# as %23, / as %2F, ? as %3F, @ as %40, % as %25).
"""

import json
import os
import sys
import time
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

url = (sys.argv[1] if len(sys.argv) > 1 else "") or os.environ.get("REDIS_URL", "redis://localhost:6379/0")
name = sys.argv[2] if len(sys.argv) > 2 else "consumer-1"
idle_ms = round(1000 * float(sys.argv[3])) if len(sys.argv) > 3 else 60_000
if not url.startswith("unix:") and set(url.partition("://")[2].rpartition("@")[0]) & set("/?#"):
    sys.exit("REDIS_URL: expected special characters of user and password percent-encoded, got others")  # else a host
client = redis.Redis.from_url(url, decode_responses=True, socket_timeout=10, retry=Retry(NoBackoff(), 0))
STREAM, GROUP = "cflow:alerts", "my-alarm-desk"


def consume() -> None:
    """Take alerts until Redis fails."""
    last = "0"  # first what this consumer was given before and never acknowledged, then ">": what is new
    cursor: Any = "0-0"  # how far it has looked for what others left
    while True:
        claimed: Any = client.xautoclaim(STREAM, GROUP, name, idle_ms, start_id=cursor, count=100)
        cursor, entries = claimed[:2]
        if not entries:
            answer: Any = client.xreadgroup(GROUP, name, {STREAM: last}, count=100, block=5000)
            entries = answer[0][1] if answer else []
            last = last if entries and last != ">" else ">"
        for entry_id, fields in entries:
            if fields:  # else it was trimmed away meanwhile
                show(json.loads(fields["json"]))
            if entry_id:
                client.xack(STREAM, GROUP, entry_id)


def show(alert: dict[str, Any]) -> None:
    """Print an alert or notice."""
    if "peak_score" in alert:  # what a camera sees
        print(alert["kind"], alert["camera_id"], alert["event_id"], alert["peak_score"], flush=True)
    elif "reason" in alert:  # how a camera, or the run itself, is; whatever has neither is not known yet
        state = "over" if alert["until_at_s"] else "lasting"
        print(alert["kind"], alert["camera_id"] or "run", alert["event_id"], state, alert["reason"], flush=True)


no_group = False
while True:
    try:
        if no_group:
            client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        consume()
    except redis.RedisError as error:
        no_group = str(error).startswith("NOGROUP")
        if no_group or str(error).startswith("BUSYGROUP"):  # somebody else made it in the same moment
            continue
        away = isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.OutOfMemoryError)  # or it hangs
        if isinstance(error, redis.AuthenticationError) or not (away or str(error).startswith("UNBLOCKED")):
            sys.exit(f"{STREAM}: {error}")
        print(f"waiting for Redis: {error}", file=sys.stderr)
        time.sleep(1)
