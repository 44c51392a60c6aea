"""A system that does not let files be read, though nothing is wrong with what is in them."""

import contextlib
import resource


@contextlib.contextmanager
def cannot_open_files():
    """What a process meets that has as many files open as it may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))  # with less, nobody could wait for packets either
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def failing_disk(path):
    """A file that opens and cannot be read, as on a damaged disk: nothing is mapped at a process's address 0."""
    path.symlink_to("/proc/self/mem")
    return path
