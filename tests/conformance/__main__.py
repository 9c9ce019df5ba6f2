"""Measure all models: ``PYTHONPATH=tests python -m conformance [--json FILE] [--page FILE] [PATTERN …]``."""

import argparse
import fnmatch
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from conformance.measure import measure
from conformance.page import page
from conformance.result import Result
from conformance.zoo import ZOO
from rich.console import Console
from rich.table import Table


def main() -> int:
    """Print one table and return 1 if a model does not conform."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="shell patterns of models, such as 'timm:*'")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--page", type=Path, help="write the page of the documentation to this file; needs all models")
    arguments = parser.parse_args()
    if arguments.page and arguments.patterns != ["*"]:
        parser.error("--page describes all models: pass no patterns")
    warnings.simplefilter("ignore")  # warnings inside the measured libraries
    console = Console()
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for entry in ZOO:
        if not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in arguments.patterns):
            continue
        results.append(measure(entry))
        console.print(f"{entry.name}: {'; '.join(results[-1].faults) or 'conforms'}", highlight=False, markup=False)
        if arguments.json:
            arguments.json.write_text(json.dumps([document(result) for result in results], indent=1))
    if arguments.page:
        arguments.page.write_text(page(results), encoding="utf-8")
    console.print(table(results))
    console.print(summary(results))
    return int(any(result.faults for result in results))


def document(result: Result) -> dict[str, Any]:
    """One result as JSON-compatible data."""
    values = {name: value for name, value in vars(result).items() if name != "entry"}
    return {"model": result.entry.name, "family": result.entry.family, **values, "faults": result.faults}


def table(results: list[Result]) -> Table:
    """One row per model."""
    rows = Table(
        "model", "sites", "named", "no site", "output", "f(g, x)", "left", "plain ms", "find", "capture", "faults"
    )
    for result in results:
        plain = result.seconds.get("plain", float("nan"))
        rows.add_row(
            result.entry.name,
            " ".join(f"{count} {kind}" for kind, count in result.kinds.items()) or "–",
            str(result.named),
            str(result.named - result.found),
            "same" if result.difference == 0 else f"{result.difference:.0e}",
            f"{result.reconstruction:.0e}",
            "nothing" if not result.left else str(len(result.left)),
            f"{plain * 1e3:.0f}",
            f"×{result.seconds.get('find', float('nan')) / plain:.1f}",
            f"×{result.seconds.get('capture', float('nan')) / plain:.1f}",
            str(len(result.faults) or ""),
        )
    return rows


def summary(results: list[Result]) -> str:
    """The totals, in a few lines."""
    named = sum(result.named for result in results)
    found = sum(result.found for result in results)
    reported = sum(len(result.reported) for result in results)
    missed = sum(len(result.missed) for result in results)
    plain = [result for result in results if not result.entry.attention]
    families = {(result.entry.library, result.entry.family) for result in results}
    lines = [
        f"{len(results)} models of {len(families)} families, {sum(f[0] == 'timm' for f in families)} of them timm's",
        f"recall {found / max(named, 1):.1%}: {found} of {named} modules; {reported} reported, {missed} unexplained",
        f"precision: {sum(bool(r.false_sites) for r in plain)} of {len(plain)} networks without attention have a site",
        f"outputs: {sum(r.difference == 0 for r in results)} of {len(results)} bit-identical, and "
        f"{sum((r.rows_difference if r.fused else r.difference) == 0 for r in results)} if rows "
        f"are kept; worst {max((r.difference for r in results), default=0):.0e}",
        f"f(g, x): worst {max((r.reconstruction for r in results), default=0):.0e}, "
        f"{sum(len(r.unproved) for r in results)} records not verified",
        f"maps: {sum(r.maps for r in results)}, refused {sum(r.refused.total() for r in results)}, "
        f"wrong {sum(len(r.wrong_maps) for r in results)}",
        f"states not restored: {sum(len(r.left) for r in results)}; conforming models: "
        f"{sum(not r.faults for r in results)} of {len(results)}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
