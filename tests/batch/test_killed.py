"""A run that is killed at any moment and started again gives the same Parquet files, byte by byte."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from batch_photos import parquet, picture

KILLS = 20
IMAGES = 15


class Runner:
    """Starts runs in children of a process that has imported everything, and kills them."""

    def __init__(self, photos: Path) -> None:
        self.photos = photos
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(Path(__file__).with_name("killed.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(self, out: Path, kill_after: float | None = None) -> bool:
        """Whether the run came to its end."""
        self.process.stdin.write(f"{self.photos}\t{out}\n")
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline()) == 0


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    (tmp_path / "photos").mkdir()
    for n in range(IMAGES):
        (tmp_path / "photos" / f"{n:02d}.png").write_bytes(picture(n) if n % 7 else b"bad")
    runner = Runner(tmp_path / "photos")
    with runner.process:
        yield runner
        runner.process.stdin.close()


def test_killed_at_random_moments_and_resumed_it_gives_the_same_files(runner: Runner, tmp_path: Path) -> None:
    assert runner.run(tmp_path / "first")
    start = time.perf_counter()
    assert runner.run(tmp_path / "undisturbed")
    seconds = time.perf_counter() - start
    whole = parquet(tmp_path / "undisturbed")
    assert len(whole) == 1 + 4 * IMAGES / 3
    moments, killed, begun = random.Random(0), 0, 0  # noqa: S311
    for trial in range(100):
        out, begin = tmp_path / str(trial), time.perf_counter()
        if runner.run(out, kill_after=moments.uniform(0.0, seconds)):
            seconds = min(seconds, time.perf_counter() - begin)  # the first run can have been slower than the others
        else:
            killed += 1
            left = parquet(out) if out.exists() else {}
            assert all(data == whole[name] for name, data in left.items())  # whole, or not there
            begun += 0 < len(left) < len(whole)
            assert runner.run(out)
        assert parquet(out) == whole
        assert not list(out.rglob(".*"))
        if killed == KILLS:
            break
    assert killed == KILLS
    assert begun >= KILLS / 4  # in the middle of the work, and not only before and after it


def test_killed_again_and_again_the_run_still_ends(runner: Runner, tmp_path: Path) -> None:
    assert runner.run(tmp_path / "first")
    start = time.perf_counter()
    assert runner.run(tmp_path / "undisturbed")
    seconds = time.perf_counter() - start
    done, moments = False, random.Random(1)  # noqa: S311
    for _ in range(10):
        done = done or runner.run(tmp_path / "out", kill_after=moments.uniform(0.3, 0.7) * seconds)
    assert done or runner.run(tmp_path / "out")
    assert parquet(tmp_path / "out") == parquet(tmp_path / "undisturbed")
