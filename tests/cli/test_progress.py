"""How far a long command is."""

import os
import subprocess

from tests.service import AI_PROXY, environment


def test_on_a_terminal_a_bar_is_shown_beside_what_is_written(tmp_path):
    env = environment(DATABASE_URL=f"sqlite:///{tmp_path}/x.db", TERM="xterm", COLUMNS=100)
    subprocess.run([AI_PROXY, "keys", "create", "laptop"], cwd=tmp_path, env=env, check=True, capture_output=True)
    (tmp_path / "lines").write_text("{nonsens\n" * 10)
    ours, theirs = os.openpty()

    done = subprocess.run(
        [AI_PROXY, "history", "import", "lines"],
        cwd=tmp_path,
        env=env,
        check=False,
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
    )

    os.close(theirs)
    shown = os.read(ours, 100_000).decode(errors="replace")
    os.close(ours)
    assert "Importing" in shown
    assert "90 bytes" in shown
    assert done.stdout == b"Imported: 0. There already: 0. Bad lines: 10.\n"
