"""The Triton kernels without a GPU: interpreted and compared with the reference, and compiled for GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SHARED_LIMIT = 48 * 1024


def run(program: str, folder: Path, *args: str, **environment: str) -> list[list[str]]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / program), *args]
    done = subprocess.run(command, env={**env, **environment}, capture_output=True, text=True, check=False)  # noqa: S603 - our own file
    assert done.returncode == 0, done.stderr
    print(done.stdout)  # noqa: T201 - a report
    return [line.split() for line in done.stdout.splitlines()]


def test_interpreted_kernels_compute_what_the_reference_computes(tmp_path):
    lines = run("interpret_triton.py", tmp_path, TRITON_INTERPRET="1")
    assert len(lines) == 18
    assert [line for line in lines if not float(line[2]) <= 2e-6] == []


def test_every_kernel_compiles_for_every_gpu_without_spilling_and_with_little_shared_memory(tmp_path):
    _, *lines = run("compile_triton.py", tmp_path, TRITON_INTERPRET="0")
    assert {line[1] for line in lines} == {"75", "80", "86", "89", "90", "100", "120", "gfx942"}
    assert len(lines) == 4 * 8
    assert [line for line in lines if line[3] != "0" or int(line[4]) > SHARED_LIMIT] == []
