"""What is told of an event, beside the pictures of it, which come when they are written."""

import json

import av
from PIL import Image


def without_evidence(kinds):
    """Kinds of one event's alerts but those of its pictures, of which there are two at most each time it goes on."""
    assert kinds[0] != "evidence"
    assert kinds.count("evidence") <= 2 * max(kinds.count("end"), 1)
    return [kind for kind in kinds if kind != "evidence"]


def checked_evidence(alerts, output):
    """Look at all files that alerts name, which lie in a run's output folder; gives how many clips there were.

    Of an event that was told, picture and clip are whole, and nothing else lies about.
    """
    shown = {alert["event_id"]: alert for alert in alerts if alert["kind"] == "evidence"}
    clips = 0
    for alert in shown.values():
        with Image.open(output / alert["picture"]) as picture:
            picture.load()
        about = json.loads((output / alert["picture"]).with_name("event.json").read_text())
        assert about["event_id"] == alert["event_id"]
        if alert["clip"] is not None:
            clips += 1
            with av.open(str(output / alert["clip"])) as clip:
                assert next(clip.decode(video=0)).key_frame
                assert sum(1 for _ in clip.decode(video=0)) > 0
    names = {path.name for path in (output / "events").rglob("*") if path.is_file()}
    assert names <= {"picture.jpg", "event.json", "clip.mp4", "clip.mkv"}
    return clips
