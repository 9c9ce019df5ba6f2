"""The README's table agrees with the cards."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "studies" / "models_table.py"


@pytest.mark.skipif(not SCRIPT.is_file(), reason="the README's script is not part of a wheel")
def test_the_table_of_the_readme_agrees_with_the_cards() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)  # noqa: S603 - our own file
    assert done.returncode == 0, done.stderr
