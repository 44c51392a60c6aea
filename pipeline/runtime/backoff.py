"""The one backoff, under the name by which readers of video import it."""

from pipeline.backoff import Backoff

__all__ = ["Backoff"]
