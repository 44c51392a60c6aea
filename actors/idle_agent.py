"""Stands where Ray expects one of its two agents, and does nothing.

Run as ``python -I -S idle_agent.py FOLDER NAME=PORT ...``. Ray's agents are HTTP servers for dashboards, jobs and
environments, none of which a local run has. The raylet wants two processes that live as long as it does, and files that
say which ports they took. The standard library only, and little of it, since two of these run beside every local run:
10 MB together (``benchmarks/results/footprint-2026-11-25-75ad0ce77409.json``), and a wake-up per second each.
"""

import os
import sys
import time
from pathlib import Path

_PAUSE_S = 1.0


def main() -> None:
    """Write the files, each whole or not at all, and wait for the raylet's end."""
    raylet = os.getppid()
    folder, *ports = sys.argv[1:]
    for entry in ports:
        name, said, port = entry.partition("=")
        if not said:  # an option that the raylet adds of its own accord
            continue
        staged = Path(folder, f"{name}.part")
        staged.write_text(port, encoding="ascii")
        staged.rename(Path(folder, name))
    while os.getppid() == raylet:
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
