"""Read alerts as one of a group of consumers: each alert goes to one of them.

What a consumer was given and did not acknowledge, because it died, is given to it again when it comes back, or to
another one that finds it so after IDLE_S seconds (longer than anybody works on an alert): whatever a consumer does
with an alert must bear being done twice.

Usage: python examples/consume_alerts.py [REDIS_URL] [CONSUMER_NAME] [IDLE_S]
"""

import contextlib
import json
import sys
from typing import Any

import redis

url = sys.argv[1] if len(sys.argv) > 1 else "redis://localhost:6379/0"
name = sys.argv[2] if len(sys.argv) > 2 else "consumer-1"
idle_ms = round(1000 * float(sys.argv[3])) if len(sys.argv) > 3 else 60_000
client = redis.Redis.from_url(url, decode_responses=True, socket_timeout=10)
STREAM, GROUP = "cflow:alerts", "my-alarm-desk"
last = "0"  # first what this consumer was given before and never acknowledged, then ">": what is new
cursor: Any = "0-0"  # how far it has looked for what others left
while True:
    try:
        claimed: Any = client.xautoclaim(STREAM, GROUP, name, idle_ms, start_id=cursor, count=100)
        cursor, entries = claimed[:2]
        if not entries:
            answer: Any = client.xreadgroup(GROUP, name, {STREAM: last}, count=100, block=5000)
            entries = answer[0][1] if answer else []
            last = last if entries and last != ">" else ">"
    except redis.ResponseError as error:
        if not str(error).startswith(("NOGROUP", "UNBLOCKED")):  # no group yet, or Redis was emptied
            raise
        with contextlib.suppress(redis.ResponseError):  # another consumer was faster
            client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        continue
    for entry_id, fields in entries:
        if not fields:  # it was trimmed away meanwhile
            if entry_id:
                client.xack(STREAM, GROUP, entry_id)
            continue
        alert = json.loads(fields["json"])
        if "peak_score" in alert:  # what a camera sees
            print(alert["kind"], alert["camera_id"], alert["event_id"], alert["peak_score"], flush=True)
        elif "reason" in alert:  # how a camera, or the run itself, is; whatever has neither is not known yet
            state = "over" if alert["until_at_s"] else "lasting"
            print(alert["kind"], alert["camera_id"] or "run", alert["event_id"], state, alert["reason"], flush=True)
        client.xack(STREAM, GROUP, entry_id)
