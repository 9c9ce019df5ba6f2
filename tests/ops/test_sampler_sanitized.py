"""The C++ under the address and undefined-behaviour sanitizers."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "sanitize.sh"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_every_kernel_is_clean_on_random_shapes_and_wild_numbers():
    done = subprocess.run([str(SCRIPT), "64"], capture_output=True, text=True, check=False)  # noqa: S603 - our own file
    assert done.returncode == 0, done.stderr
    assert "64-byte vectors: clean" in done.stdout
