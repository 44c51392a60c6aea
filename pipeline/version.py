"""Which release this is: the one place, from which pyproject.toml takes it, too."""

VERSION = "0.2.0"
