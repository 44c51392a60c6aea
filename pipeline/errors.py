"""The error tree.

::

    CflowError                    whatever this project raises on purpose; its text is one line for the user
    +-- BadInputError             the user can mend it: exit code 2
    |   +-- ConfigError           also ValueError: a wrong key or value in the YAML
    |   +-- DatasetError          also ValueError: a folder that is not the data set it should be
    |   +-- VideoError            also OSError: a stream that cannot be opened or decoded
    |   |   `-- RefusedError        whoever answers says no (401, 403, 404), or sends the password elsewhere
    |   +-- CheckpointError       also ValueError: a model folder that is damaged or does not fit
    |   +-- ModelSizeError        also MemoryError: a model larger than its limit, or than the memory there is
    |   +-- WeightsError          also OSError: encoder weights that cannot be had
    |   +-- ScoresError           also ValueError: a scores folder that cannot be read or does not fit the data set
    |   +-- RedisError            also ConnectionError: Redis does not answer, or refuses
    |   |   `-- FolderInUseError    another embedded server uses the folder
    |   `-- SinkError             also ConnectionError: a receiver of alerts does not answer, or is not to be trusted
    +-- PackageError              a model that could not be compiled: it runs as it stands instead
    `-- RunError                  something failed that was no fault of the input: exit code 1
        `-- StoppedError            the user stopped it before anything was done

Every message says what, where, what was expected and what came; none holds a credential.
"""

from __future__ import annotations


class CflowError(Exception):
    """Whatever this project raises on purpose; its text is one line for the user."""


class BadInputError(CflowError):
    """Something the user gave is wrong and the user can mend it."""


class ConfigError(BadInputError, ValueError):
    """A wrong key or value in the configuration."""


class DatasetError(BadInputError, ValueError):
    """A folder that is not the data set it should be."""


class VideoError(BadInputError, OSError):
    """A stream that cannot be opened or decoded."""


class RefusedError(VideoError):
    """Whoever answers says no (401, 403, 404), or sends the password elsewhere: trying again soon changes nothing."""


class CheckpointError(BadInputError, ValueError):
    """A model folder that is damaged or does not fit the configuration."""


class ModelSizeError(BadInputError, MemoryError):
    """A model larger than its limit, or than the memory there is."""


class WeightsError(BadInputError, OSError):
    """Encoder weights that cannot be had."""


class ScoresError(BadInputError, ValueError):
    """A scores folder that cannot be read or does not fit the data set."""


class RedisError(BadInputError, ConnectionError):
    """Redis does not answer, or refuses."""


class FolderInUseError(RedisError):
    """Another embedded server uses the folder."""


class SinkError(BadInputError, ConnectionError):
    """A receiver of alerts does not answer, or is not to be trusted."""


class PackageError(CflowError):
    """A model could not be compiled on this machine; it runs as it stands instead."""


class RunError(CflowError):
    """Something failed that was no fault of the input."""


class StoppedError(RunError):
    """The user stopped it before anything was done."""
