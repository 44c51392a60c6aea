"""Where normal footage was named before it moved up; goes once nobody asks here."""

from pipeline.normal_footage import NormalStretch, StretchKind

__all__ = ["NormalStretch", "StretchKind"]
