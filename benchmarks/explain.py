"""Time of the command line relative to importing the libraries that it needs.

Two ratios are printed, each with its limit: ``attnviz --help`` against ``import click``, and the whole ``attnviz
explain`` of a photograph against ``import torch, captum.attr, cv2, seaborn``. Both sides alternate, in new processes,
and the fastest run of each counts, because it is the least disturbed by other work on the machine.

    python benchmarks/explain.py [--rounds 3] [--model cbam] [--weights default] [--json]
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 2.5
COMMAND = "import sys; sys.argv = ['attnviz', *sys.argv[1:]]; from attnviz.cli.main import main; main()"


class Side:
    """One side of a comparison: its fastest run so far."""

    def __init__(self, title: str, *words: str) -> None:
        self.title, self.words = title, (sys.executable, *words)
        self.wall_s = self.cpu_s = float("inf")
        self.output = ""

    def run(self) -> None:
        """Run it once."""
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        result = subprocess.run(self.words, cwd=ROOT, check=True, capture_output=True, text=True)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.cpu_s = min(self.cpu_s, cpu)
        if wall < self.wall_s:
            self.wall_s, self.output = wall, result.stdout


def compare(ours: Side, theirs: Side, rounds: int) -> dict[str, object]:
    """Run both sides alternately and return the ratio of their fastest runs."""
    for _ in range(rounds):
        theirs.run()
        ours.run()
    ratio = ours.wall_s / theirs.wall_s
    return {
        "ours": ours.title, "ours_s": round(ours.wall_s, 3), "ours_cpu_s": round(ours.cpu_s, 3),
        "reference": theirs.title, "reference_s": round(theirs.wall_s, 3), "reference_cpu_s": round(theirs.cpu_s, 3),
        "ratio": round(ratio, 2), "limit": LIMIT, "within": ratio <= LIMIT,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="cbam")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        words = ("explain", "sample_data/chelsea.png", "--model", options.model, "--weights", options.weights,
                 "--out", out, "--overwrite", "--verbose")  # fmt: skip
        whole = Side("attnviz explain", "-c", COMMAND, *words)
        rows = [
            compare(Side("attnviz --help", "-c", COMMAND, "--help"), Side("import click", "-c", "import click"),
                    5 * options.rounds),
            compare(whole, Side("import torch, captum.attr, cv2, seaborn", "-c",
                                "import torch, captum.attr, cv2, seaborn"), options.rounds),
        ]  # fmt: skip
    steps = {
        name: float(spent)
        for name, spent in re.findall(r"(?:time: |, )([a-z_ ]+) (\d+\.\d+) s", " ".join(whole.output.split()))
    }
    if options.json:
        print(json.dumps({"comparisons": rows, "steps_s": steps}, indent=2))
        return
    for row in rows:
        verdict = "within" if row["within"] else "ABOVE"
        print(f"{row['ours']}: {row['ours_s']} s (CPU {row['ours_cpu_s']} s)")
        print(f'  reference `python -c "{row["reference"]}"`: {row["reference_s"]} s (CPU {row["reference_cpu_s"]} s)')
        print(f"  ratio {row['ratio']}, {verdict} the limit of {row['limit']}")
    print("where the time of the fastest run goes:")
    for name, spent in sorted(steps.items(), key=lambda step: -step[1]):
        print(f"  {spent:6.2f} s  {name}")


if __name__ == "__main__":
    main()
