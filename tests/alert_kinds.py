"""What is told of an event, beside the pictures of it, which come when they are written."""


def without_evidence(kinds):
    """Kinds of one event's alerts but those of its pictures, of which there are two at most each time it goes on."""
    assert kinds[0] != "evidence"
    assert kinds.count("evidence") <= 2 * max(kinds.count("end"), 1)
    return [kind for kind in kinds if kind != "evidence"]
