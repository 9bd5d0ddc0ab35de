"""How far a long command is: on a terminal, beside what it writes."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[int, int | None], None]


@contextmanager
def progress(label: str, unit: str) -> Iterator[Tell]:
    """Yields what is to be told how much is done, and of how much, if that is known.

    It is silent without a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    # Imported here because it takes a tenth of a second.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    counted = TextColumn("{task.completed:,.0f} {task.fields[unit]}")
    columns = (TextColumn("{task.description}"), BarColumn(), counted, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=None, unit=unit)
        yield lambda done, total: shown.update(task, completed=done, total=total)
