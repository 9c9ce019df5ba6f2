"""Print the summary of a run over many images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from attnviz.cli.terminal import console_of, print_end, table_of

if TYPE_CHECKING:
    from attnviz.batch import Outcome
    from attnviz.batch.summary import Summary

_MOST = 5
_WIDTH = 120


def print_outcome(outcome: Outcome, summary: Summary, files: list[str]) -> None:
    """Print counts, failures with reasons, outliers and the paths of the files."""
    console = console_of(_WIDTH)
    done = f"{outcome.computed} images in {outcome.seconds:.0f} s ({outcome.rate:.1f} images/s)"
    earlier = f"; {outcome.before} were done before" if outcome.before else ""
    console.print(Text(f"{done}{earlier}." if outcome.computed else f"All {outcome.before} images were done before."))
    table = table_of("model", "images", "failed", "correct", "mean probability", "mean agreement")
    for one in summary.models:
        means = [mean for (kind, _, _, name), (mean, _) in one.means.items() if (kind, name) == ("pair", "spearman")]
        agreed = f"{sum(means) / len(means):.2f}" if means else "–"
        correct = f"{one.correct} of {one.labelled}" if one.labelled else "–"
        sure = f"{one.probability:.2f}" if one.ok else "–"
        table.add_row(Text(one.model), str(one.ok + one.failed), str(one.failed), correct, sure, agreed)
    console.print(table)
    _print_lists(console, summary)
    notes = [f"{planned.name}: {note}" for planned in outcome.plan.models for note in planned.notes]
    notes += map(_one_line, outcome.plan.notes)
    print_end(console, notes, [*files, outcome.store.folder.path("measures")])


def _print_lists(console: Console, summary: Summary) -> None:
    for reason, count in list(summary.reasons.items())[:_MOST]:
        named = [one.image for one in summary.failures if one.reason == reason]
        where = f": {named[0]}" if named else ""
        more = f" and {count - 1} more" if count > 1 and named else ""
        console.print(Text(_one_line(f"failed, {reason}{where}{more}"), style="red"))
    if summary.copies:
        pair = f": {', '.join(map(_one_line, summary.duplicates[0][:2]))}" if summary.duplicates else ""
        console.print(Text(f"Files that are identical to an earlier one: {summary.copies}{pair}", style="yellow"))
    for title, found in (("maps disagree", summary.disagreements), ("confident but wrong", summary.wrong)):
        for one in found[:_MOST]:
            console.print(Text(_one_line(f"{title}: {one.image}: {one.what} ({one.model})")))


def _one_line(path: str) -> str:
    """Text without control characters, which could change the terminal."""
    return "".join(char if char.isprintable() else "�" for char in path)
