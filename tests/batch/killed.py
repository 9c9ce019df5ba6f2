"""A run in a process of its own, which a test kills: ``python killed.py PHOTOS OUT``."""

import os
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "cli")]


def run_of(photos: str, out: str) -> None:
    from attnviz.batch import RunOptions, run

    options = RunOptions(models=("tiny_model:build",), methods=("saliency", "gradcam"), batch=2, shard_size=3)
    run([photos], out, options, device="cpu", workers=2)


if __name__ == "__main__":
    # Everything heavy is imported once; each line that is read is a run in a child that can be killed.
    for name in ("attnviz.batch.shard", "attnviz.batch.local_engine", "captum.attr", "pandas", "pyarrow.compute",
                 "pyarrow.fs", "pyarrow.parquet"):  # fmt: skip
        import_module(name)
    import torch
    from PIL import Image

    Image.init()
    torch.set_num_threads(1)
    for line in sys.stdin:
        photos, out = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run_of(photos, out)
                code = 0
            finally:
                os._exit(code)
        print(child, flush=True)  # noqa: T201
        _, status = os.waitpid(child, 0)
        print(status, flush=True)  # noqa: T201
