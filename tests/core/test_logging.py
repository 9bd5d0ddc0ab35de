"""Log lines: what they look like, and that nobody ever waits for them."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ai_proxy.core.logging import LogWriter
from tests.service import environment


@pytest.fixture
def pipe():
    """The two ends of a pipe, to read from and to write to. Nothing is lost by closing them twice."""
    ends = os.pipe()
    with open(ends[0], "rb", buffering=0) as reading, open(ends[1], "wb", buffering=0) as writing:
        yield reading, writing


def logged(script: str, *, log_format: str = "json", level: str = "info") -> str:
    """What a process writes that sets up logging and runs `script`."""
    beginning = f"""
import logging, structlog
from ai_proxy.core import logging as ours
ours.configure(level={level!r}, log_format={log_format!r})
log = structlog.get_logger()
"""
    command = [sys.executable, "-c", beginning + script]
    done = subprocess.run(command, check=True, env=environment(), capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return done.stdout


def lines(script: str, **settings) -> list[dict]:
    return [json.loads(line) for line in logged(script, **settings).split("\n")[:-1]]


def test_every_line_is_an_object_that_begins_alike():
    first, second = lines("""
log.info("hello", answer=42)
ours.request_id.set("the-request")
log.warning("careful", nested={"a": [1, None]})
""")

    assert list(first) == ["timestamp", "level", "message", "request_id", "answer"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["timestamp"])
    assert (first["level"], first["message"], first["request_id"], first["answer"]) == ("info", "hello", None, 42)
    assert (second["level"], second["request_id"], second["nested"]) == ("warning", "the-request", {"a": [1, None]})


def test_the_line_of_a_request_has_the_same_form():
    as_structlog, at_once = lines(
        """
ours.request_id.set("the-request")
log.warning("request", status=404, attempts=[])
ours.write("warning", {"event": "request", "status": 404, "attempts": []})
ours.write("info", {"event": "request", "status": 200})
""",
        level="warning",
    )

    assert list(as_structlog.items())[1:] == list(at_once.items())[1:]


def test_lines_of_libraries_have_the_same_form():
    [line] = lines('logging.getLogger("uvicorn.error").warning("port %d", 80)')

    assert list(line) == ["timestamp", "level", "message", "request_id", "logger"]
    assert (line["level"], line["message"], line["logger"]) == ("warning", "port 80", "uvicorn.error")


def test_levels_below_the_chosen_one_are_left_out():
    script = """
for level in ("debug", "info", "warning", "error"):
    getattr(log, level)("ours")
    getattr(logging.getLogger("uvicorn"), level)("theirs")
logging.getLogger("sqlalchemy.engine").info("a question to the database")
logging.getLogger("uvicorn.access").info("a line that the middleware writes")
"""

    quiet = [(line["level"], line["message"]) for line in lines(script, level="warning")]
    chatty = [(line["level"], line["message"]) for line in lines(script, level="debug")]

    assert quiet == [("warning", "ours"), ("warning", "theirs"), ("error", "ours"), ("error", "theirs")]
    assert chatty == [("debug", "ours"), ("info", "ours"), ("info", "theirs"), *quiet]


def test_an_exception_is_one_line_with_its_traceback():
    line, foreign = lines("""
try:
    {}["missing"]
except KeyError:
    log.exception("it broke")
    logging.getLogger("asyncio").exception("it broke there")
""")

    for found in (line, foreign):
        assert found["level"] == "error"
        assert found["exception"].startswith("Traceback (most recent call last):\n")
        assert found["exception"].endswith("KeyError: 'missing'")


def test_nothing_in_a_line_can_move_the_cursor_or_begin_a_new_line():
    text = logged(r"""
log.info("x", path="/a\nb\r\x1b[2J\x00\x7f\x85\x9b31m\u2028\u2029", **{"header\n": "v"})
""")

    assert text.count("\n") == 1
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", text) is None
    assert json.loads(text)["path"] == "/a\nb\r\x1b[2J\x00\x7f\x85\x9b31m\u2028\u2029"


def test_whatever_a_value_is_the_line_gets_written():
    first, second, third = lines(r"""
log.info("object", value=object())
log.info("surrogate", value="a\ud800b")
log.info("bytes", value=b"\xff", number=2**70)
""")

    assert first["value"].startswith("<object object")
    assert "ud800" in second["value"]
    assert (third["message"], third["number"]) == ("bytes", 2**70)


def test_the_console_format_shows_control_characters_instead_of_obeying_them():
    text = logged(r'log.info("hello", path="/a\x1b[2J\r\x9bx", n=1)', log_format="console")

    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "\x1b[" in text
    assert "hello" in plain
    assert "\x1b" not in plain
    assert r"/a\x1b[2J\x0d\x9bx" in plain
    assert text.count("\n") == 1


def test_the_console_format_keeps_the_lines_of_a_traceback():
    text = logged(
        """
try:
    {}["missing"]
except KeyError:
    log.exception("it broke")
""",
        log_format="console",
    )

    assert "Traceback (most recent call last):\n" in text
    assert "KeyError" in text.splitlines()[-1]


def test_without_a_terminal_the_format_is_json():
    assert [line["message"] for line in lines('log.info("hello")', log_format="auto")] == ["hello"]


def test_setting_it_up_anew_loses_no_line():
    script = 'log.info("before")\nours.configure(level="warning", log_format="json")\nlog.info("x")\nlog.error("after")'

    assert [line["message"] for line in lines(script)] == ["before", "after"]


def test_a_closed_stdout_is_no_reason_to_fail():
    script = "import os; os.close(1)\nfrom ai_proxy.core import logging as ours\n"
    script += 'w = ours.configure(level="info", log_format="auto"); w.write(b"x"); w.close()'
    done = subprocess.run([sys.executable, "-c", script], check=False, env=environment(), stderr=subprocess.PIPE)

    assert (done.returncode, done.stderr) == (0, b"")


# The writer


def test_lines_are_written_in_their_order(pipe):
    reading, writing = pipe
    writer = LogWriter(writing.fileno())

    for number in range(1000):
        writer.write(b"%d" % number)
    writer.close()

    assert reading.read(65_536) == b"".join(b"%d\n" % number for number in range(1000))
    assert writer.dropped == 0


def test_many_threads_lose_no_line(pipe):
    reading, writing = pipe
    writer = LogWriter(writing.fileno())
    threads = [threading.Thread(target=lambda: [writer.write(b"x") for _ in range(500)]) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()

    assert reading.read(65_536) == b"x\n" * 4000


def test_a_reader_who_does_not_read_blocks_nobody_and_what_is_dropped_is_counted(pipe):
    reading, writing = pipe
    writer = LogWriter(writing.fileno(), capacity=100)
    line = b"x" * 1000
    longest = 0.0

    for _ in range(1000):
        began = time.monotonic()
        writer.write(line)
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.0005)  # the pipe fills, then the buffer
    dropped = writer.dropped
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(reading.readall)
        writer.close(5)
        writing.close()

    assert longest < 0.2
    assert dropped > 500
    assert received.result().splitlines() == [line] * (1000 - dropped)


def test_closing_does_not_wait_for_ever_for_a_reader_who_does_not_read(pipe):
    reading, writing = pipe
    writer = LogWriter(writing.fileno())
    for _ in range(200):
        writer.write(b"x" * 1000)

    began = time.monotonic()
    writer.close(0.1)
    took = time.monotonic() - began
    reading.close()
    writer.close(5)

    assert took < 1
    assert writer.dropped > 100


def test_what_cannot_be_written_is_counted(pipe):
    reading, writing = pipe
    writer = LogWriter(writing.fileno())
    reading.close()

    writer.write(b"x")
    writer.write(b"y")
    writer.close()

    assert writer.dropped == 2
