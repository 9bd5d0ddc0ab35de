"""The clients for Node: every *.test.mjs of this folder, by Node's own test runner."""

import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda file: file.name)
def test_the_file_passes(run, file):
    # Node looks for packages beside the file that imports them.
    beside_the_packages = Path(shutil.copy(file, sys.prefix))

    run("node", "--test", "--test-reporter=spec", str(beside_the_packages))
