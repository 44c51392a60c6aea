"""What a report calls its numbers, and what they mean, in words for people."""

from __future__ import annotations

METRIC_NAMES = {
    "frame_auroc": "Frame AUROC",
    "frame_auroc_causal": "Frame AUROC (causal)",
    "frame_auroc_as_published": "As published (not attainable live)",
    "frame_auroc_macro": "Frame AUROC (macro)",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO at 0.3",
}

GLOSSARY = (
    (
        "Frame AUROC",
        "The chance that an anomalous frame, drawn from all frames of all clips, scores higher than a normal one; "
        "ties count half.",
    ),
    (
        "Frame AUROC (causal)",
        "The same of the smoothed scores that alarms use. They are smoothed over the past alone.",
    ),
    (
        "As published (not attainable live)",
        "The same of scores that are smoothed over the future, too, and scaled clip by clip to reach from 0 to 1, as "
        "many papers do. It serves to be set beside theirs; no live camera can do it.",
    ),
    (
        "Frame AUROC (macro)",
        "The same within each clip, averaged over the clips that hold both kinds of frames.",
    ),
    (
        "Pixel AUROC",
        "The chance that an anomalous pixel has a higher value in the anomaly map than a normal one, "
        "all pixels of all frames pooled.",
    ),
    (
        "AUPRO at 0.3",
        "How much of an anomalous region the map covers, averaged over regions, so that small ones count as much as "
        "large ones, and over pixel false-positive rates from 0 to 0.3; 1 is perfect.",
    ),
    (
        "Floor",
        "What a method reaches that sees no pixel: random scores; the time passed in the clip, since anomalies tend to "
        "come late; the true label of each frame, spread over all its pixels. A number means little without it.",
    ),
    (
        "Normal above threshold",
        "The share of normal frames whose smoothed score reached the threshold. An alarm that never ends is one false "
        "event, and shows here.",
    ),
    (
        "False event",
        "An event that opened for nothing: no frame up to half a second after its first alert is anomalous. Counted "
        "per hour of normal footage, with the interval of a Poisson process.",
    ),
    (
        "Precision",
        "The share of the events that opened during an anomaly. The others opened for nothing, or shortly before one.",
    ),
    (
        "Anomaly found, under alarm",
        "Found is a stretch of anomalous frames during which an event opened; the delay is the time from its first "
        "frame to that alert. Under alarm are all during which an event was open: one that opened before tells nobody "
        "anything new.",
    ),
    (
        "Recall at 1 false/h",
        "The share of the anomalies that would be found if all thresholds were moved together so that at most one "
        "event an hour of normal footage opened for nothing. With less than an hour that means none.",
    ),
    (
        "nAUDC @0.2TFA",
        "NIST's measure of activity detection: the share of anomalies missed, averaged over the share of normal time "
        "that lies in events, from 0 to a fifth. 0 is perfect, 1 finds nothing.",
    ),
    (
        "RBDC and TBDC",
        "How many anomalous regions, and how many tracks of them from frame to frame, the map outlines (a tenth of "
        "the two boxes' union in common; a tenth of a track's regions), averaged over 0 to 1 false regions a frame.",
    ),
    (
        "Event",
        "A stretch in which the smoothed score stayed above the camera's threshold, which was fixed beforehand on "
        "normal footage.",
    ),
)
