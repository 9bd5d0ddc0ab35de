"""The server process, as far as it can be seen without one."""

import asyncio
import json
import subprocess
import sys
import time

import pytest
from structlog.testing import capture_logs

from ai_proxy.api.server import end_tasks


async def stubborn(cancels: int) -> None:
    """Goes on after being told so often to end, as a driver does that cleans up on a disk that does not answer."""
    for _ in range(cancels):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            continue
    await asyncio.sleep(30)


async def end_with() -> tuple[float, list[str]]:
    """What is left when everything else has ended: how long that takes, and what the log says."""
    await asyncio.sleep(0)
    began = time.monotonic()
    with capture_logs() as log:
        await end_tasks()
    return time.monotonic() - began, [line["event"] for line in log]


def test_a_task_whose_cleaning_up_hangs_is_ended_too():
    async def main():
        task = asyncio.create_task(stubborn(2))
        return *await end_with(), task.cancelled()

    waited, said, ended = asyncio.run(main())

    assert waited < 3
    assert said == []
    assert ended


def test_a_task_that_does_not_end_is_left_and_the_log_says_so():
    async def main():
        task = asyncio.create_task(stubborn(5))
        return *await end_with(), task.done()

    waited, said, ended = asyncio.run(main())

    assert waited < 3
    assert said == ["server: tasks that do not end are left alone"]
    assert not ended


def test_nobody_waits_where_no_task_is_left():
    waited, said = asyncio.run(end_with())

    assert waited < 0.1
    assert said == []


# Open files

RAISE = """
import json, resource
from structlog.testing import capture_logs
from ai_proxy.api.server import raise_descriptor_limit
with capture_logs() as log:
    raise_descriptor_limit(100)
print(json.dumps([resource.getrlimit(resource.RLIMIT_NOFILE), log]))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "warning"),
    [
        pytest.param(64, 512, None, id="raised"),
        pytest.param(64, 199, {"limit": 199, "needed": 200}, id="raised, and too low"),
        pytest.param(200, 200, None, id="just enough"),
    ],
)
def test_as_many_files_may_be_open_as_the_system_allows(soft, hard, warning):
    command = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$0" -c "$1"'

    done = subprocess.run(["sh", "-c", command, sys.executable, RAISE], capture_output=True, text=True, check=True)

    limits, log = json.loads(done.stdout)
    expected = {"event": "server: too few files may be open for the connections allowed", "log_level": "warning"}
    assert limits == [hard, hard]
    assert log == ([] if warning is None else [expected | warning])
