"""Run the tests with the oldest and the newest supported releases, each in an environment of its own.

    python compat/run.py                 # lowest and newest
    python compat/run.py lowest --full   # one environment, the whole suite

An environment is created below ``build/compat`` from ``compat/NAME.txt`` and reused. The result is printed as a table
and written to ``build/compat/NAME.json``; ``docs/reference/compatibility.md`` shows the table of the last run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUICK = ("tests/capture", "tests/ops", "tests/attribution", "tests/heatmaps", "tests/core", "tests/analyses",
         "tests/test_explain.py", "tests/test_intervene.py", "tests/test_edits.py", "tests/cli")  # fmt: skip
SHOWN = ("torch", "numpy", "pillow", "opencv-python", "opencv-python-headless", "scipy", "scikit-learn", "seaborn",
         "matplotlib", "captum", "click", "rich", "pyarrow", "fsspec", "av", "timm", "torchvision",
         "transformers")  # fmt: skip


def main() -> int:
    """Build the environments, run the tests in each and print a table; 1 if any test fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["lowest", "newest"], help="Files of constraints in compat/.")
    parser.add_argument("--full", action="store_true", help="Run the whole suite and not its main folders.")
    arguments = parser.parse_args()
    results = [run(name, full=arguments.full) for name in arguments.names]
    print(table(results))
    return int(any(result["failed"] for result in results))


def run(name: str, *, full: bool) -> dict[str, object]:
    """Create an environment and run the tests in it."""
    python = environment(name)
    paths = () if full else QUICK
    log = ROOT / "build" / "compat" / f"{name}.log"
    with log.open("w") as output:
        # Without doctests: several folders with a conftest.py cannot be collected with them in one call.
        command = [python, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", *paths]
        subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False)
    last = log.read_text().splitlines()[-1]
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    versions = {one["name"].lower(): one["version"] for one in json.loads(listed.stdout)}
    result = {
        "name": name,
        "python": subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1],
        "passed": counts.get("passed", 0),
        "failed": counts.get("failed", 0) + counts.get("error", 0) + (not counts),
        "skipped": counts.get("skipped", 0),
        "versions": {package: versions[package] for package in SHOWN if package in versions},
    }
    (log.parent / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def environment(name: str) -> str:
    """The interpreter of an environment with the constraints of ``compat/NAME.txt``; created on first use."""
    folder = ROOT / "build" / "compat" / name
    python = folder / "bin" / "python"
    constraints = ROOT / "compat" / f"{name}.txt"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        # Pinned packages first: the requirement of cv2 depends on the OpenCV variant that is installed.
        lines = (line.partition("#")[0].strip() for line in constraints.read_text().splitlines())
        pinned = [line for line in lines if line]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *pinned], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, "--editable", f"{ROOT}[test]"],
        check=True,
    )
    return str(python)


def table(results: list[dict[str, object]]) -> str:
    """The results as a Markdown table, one column per environment."""
    rows = [["", *(str(result["name"]) for result in results)], ["---"] * (len(results) + 1)]
    rows.append(["Python", *(str(result["python"]) for result in results)])
    for package in SHOWN:
        cells = [str(result["versions"].get(package, "–")) for result in results]  # type: ignore[attr-defined]
        rows.append([package, *cells])
    rows += [[f"tests {key}", *(str(result[key]) for result in results)] for key in ("passed", "failed", "skipped")]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
