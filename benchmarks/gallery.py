"""Time of the page of a run as the number of images grows: each action at many images relative to few.

A run with synthetic predictions, maps and measures is written for each size, then its page. In headless Chromium each
action is timed from its event until everything that it needs has loaded and two more frames are painted, so that every
number includes one or two frames of 16.7 ms; the result is the median over turns. Memory is the peak of a process that
only writes the page.

    python benchmarks/gallery.py [--images 100 10000] [--turns 15] [--shard 64]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests" / "report"
OPENED = 90  # ``open`` shows images below this number

WRITER = """
import json, resource, sys, time
from pathlib import Path
from attnviz.report.dataset import write
start = time.perf_counter()
write(sys.argv[1])
print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""

TIMED = """async (act) => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const settled = () => new Promise((done) => setTimeout(done, 60));
  const change = (id, value, name) => {
    by(id).value = value;
    by(id).dispatchEvent(new Event(name, {bubbles: true}));
  };
  const turn = window.turn = (window.turn || 0) + 1;
  const sorts = [...by("sort").options].map((one) => one.value);
  const acts = {
    scroll: () => { by("grid").scrollTop = (turn * 7919 % 100) / 100 * by("grid").scrollHeight; },
    filter: () => change("state", ["", "4", "3", "1"][turn % 4], "change"),
    search: () => change("search", ["1", "12", "cat", ""][turn % 4], "input"),
    sort: () => change("sort", sorts[3 + turn % (sorts.length - 3)], "change"),
    open: () => { location.hash = `#${turn % 2 ? turn * 31 % 90 : turn * 17 % 90}`; },
  };
  await settled();
  const start = performance.now();
  acts[act]();
  if (act === "sort") await attnviz.load("columns", Number(by("sort").value));
  if (act === "open") while (by("tiles").dataset.of !== location.hash) await new Promise((done) => setTimeout(done));
  await painted();
  const spent = performance.now() - start;
  await settled();
  if (act === "open") { location.hash = "#gallery"; await settled(); }
  return spent;
}"""


def main() -> None:
    """Print a line per size, and the ratios to the smallest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--shard", type=int, default=64)
    options = parser.parse_args()
    if min(options.images) < OPENED:
        parser.error(f"--images: at least {OPENED}, the action opens images up to number {OPENED - 1}")
    found: dict[int, dict[str, float]] = {}
    for images in options.images:
        with tempfile.TemporaryDirectory() as folder:
            found[images] = measure(Path(folder), images, options.turns, options.shard)
    first = found[options.images[0]]
    print(f"{'':28}" + "".join(f"{images:>12,}" for images in found) + f"{'ratio':>10}")
    for name in first:
        values = [one[name] for one in found.values()]
        ratio = values[-1] / first[name] if first[name] else float("nan")
        print(f"{name:28}" + "".join(f"{value:12.1f}" for value in values) + f"{ratio:10.2f}")


def measure(folder: Path, images: int, turns: int, shard: int) -> dict[str, float]:
    """All numbers of one size."""
    sys.path.insert(0, str(TESTS))
    from runs import make_run

    make_run(folder, images, shard=shard)
    words = [sys.executable, "-c", WRITER, str(folder)]
    seconds, peak = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    size = sum(path.stat().st_size for path in (folder / "page").rglob("*") if path.is_file()) / 2**20
    written = {"write, ms per image": 1000 * seconds / images, "write, peak MiB": peak, "page, MiB": size}
    return written | browse((folder / "index.html").as_uri(), turns)


def browse(address: str, turns: int) -> dict[str, float]:
    """Milliseconds of each action, and the size of the page."""
    from chromium import CHROMIUM, FLAGS, sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        loads, found = [], {}
        for _ in range(5):
            tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            tab.goto(address)
            tab.wait_for_selector("#cards img")
            loads.append(
                tab.evaluate("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart")
            )
        found["load, ms"] = statistics.median(loads)
        for act in ("scroll", "filter", "search", "sort", "open"):
            times: list[Any] = [tab.evaluate(TIMED, act) for _ in range(turns)]
            found[f"{act}, ms"] = statistics.median(times)
            found[f"{act}, slowest ms"] = max(times)
        found["elements in the page"] = tab.evaluate("document.querySelectorAll('*').length")
        browser.close()
    return found


if __name__ == "__main__":
    main()
