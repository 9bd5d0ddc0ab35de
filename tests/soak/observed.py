"""`ai-proxy serve`, whose insides can be counted: at SIGUSR2 it writes down what there is in the process.

Run as `python -m tests.soak.observed PATH serve`; `PATH` is of the file.
"""

import asyncio
import json
import os
import signal
import sys
import threading
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.pool import Pool

from ai_proxy.cli import app


class Connections:
    """Of the pools of this process: how many there are, and how many are lent."""

    def __init__(self) -> None:
        self.open = 0
        self.lent = 0
        for name, column, step in (
            ("connect", "open", 1),
            ("close", "open", -1),
            ("checkout", "lent", 1),
            ("checkin", "lent", -1),
        ):
            event.listen(Pool, name, self._counting(column, step))

    def _counting(self, column: str, step: int):
        def count(*_: object) -> None:
            setattr(self, column, getattr(self, column) + step)

        return count


def main() -> None:
    path = Path(sys.argv.pop(1))
    connections = Connections()

    def write_down(*_: object) -> None:
        found = {
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "files": len(os.listdir("/proc/self/fd")),
            "connections": connections.open,
            "lent": connections.lent,
        }
        path.with_suffix(".new").write_text(json.dumps(found))
        path.with_suffix(".new").rename(path)

    signal.signal(signal.SIGUSR2, write_down)
    app()


if __name__ == "__main__":
    main()
