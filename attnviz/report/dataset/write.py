"""Write the page of a run: ``index.html``, and ``page/`` with its scripts, figures and data."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnviz.errors import OutputError
from attnviz.report.core.colours import OPACITY, gradient_css
from attnviz.report.core.map_view import MapView
from attnviz.report.core.templating import settings_rows, template
from attnviz.report.core.viewer_data import GROUPS, palettes
from attnviz.report.dataset import overview
from attnviz.report.dataset.columns import Columns, gather, stride_of
from attnviz.report.dataset.figures import boxes, save
from attnviz.report.dataset.js_data import floats, write_call
from attnviz.report.dataset.predictions import Answers, read_answers
from attnviz.report.dataset.run_folder import Run, open_run
from attnviz.report.dataset.shard_data import write_parts

PAGE, INDEX = "page", "index.html"


def write(folder: str | Path) -> Path:
    """Write the page of what is done of a run; that of an earlier time is replaced when the new one is whole.

    Memory holds one shard, and a few bytes for each image; nothing but the folder is read.

    Args:
        folder: The run's, on a local disk.

    Returns:
        ``index.html``, which opens from the disk and by any server.

    Raises:
        DataError: the folder holds no run, or a damaged one.
        OutputError: it cannot be written.
    """
    run = open_run(Path(folder))
    try:
        with tempfile.TemporaryDirectory(prefix=".page.", suffix=".partial", dir=run.folder) as name:
            partial = Path(name) / PAGE
            partial.mkdir()
            text = _fill(run, partial, Path(name) / "columns")
            (Path(name) / INDEX).write_text(text, encoding="utf-8")
            if (run.folder / PAGE).is_dir():
                shutil.rmtree(run.folder / PAGE)
            partial.replace(run.folder / PAGE)
            (Path(name) / INDEX).replace(run.folder / INDEX)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return run.folder / INDEX


def _fill(run: Run, page: Path, scratch: Path) -> str:
    """Write everything beside the page, and make the page."""
    columns = gather(run, scratch)
    answers, scripts = read_answers(run, page)
    places = {key: at for at, key in enumerate(columns.keys)}
    words: dict[str, Any] = {}
    for shard in run.shards:
        write_parts(run, shard, page, places, words)
    for at, values in enumerate(columns.values[: len(columns.keys)]):
        write_call(page / f"columns/{at:06d}.js", "column", at, floats(values))
    for name in ("viewer", "gallery"):
        (page / f"{name}.js").write_text(template(f"{name}.js").render(), encoding="utf-8")
    (page / "theme.js").write_text(template("theme.js").render(), encoding="utf-8")
    styles = [template(f"{name}.css").render() for name in ("report", "viewer", "gallery")]
    (page / "page.css").write_text("\n".join(styles), encoding="utf-8")
    figures = list(_figures(run, columns, answers, page))
    return template("gallery.html.j2").render(
        run=run,
        there=overview.there(answers),
        rows=overview.model_rows(run, columns, answers),
        answers=answers,
        failed=overview.failed(answers),
        surprises=[
            (title, text, list(overview.pictures(run, found)))
            for title, text, found in overview.surprises(run, columns, answers)
        ],
        agreement=list(overview.agreement(columns, run)),
        figures=figures,
        stride=stride_of(columns.values.shape[1]),
        settings=_settings(run),
        scripts=[f"{PAGE}/{name}" for name in scripts],
        data=_data(run, columns, answers, words),
        opacity=round(OPACITY * 100),
    )


def _figures(run: Run, columns: Columns, answers: Answers, page: Path) -> Iterator[dict[str, Any]]:
    (page / "figures").mkdir()
    for number, one in enumerate(boxes(run, columns, answers)):
        file = f"figures/{number:03d}.png"
        width, height = save(one, page / file)
        facts = {
            "group": one.group,
            "title": one.title,
            "reading": one.reading,
            "meaning": one.meaning,
            "alt": one.alternative,
        }
        yield facts | {"src": f"{PAGE}/{file}", "table": one.table, "width": width, "height": height}


def _settings(run: Run) -> list[tuple[str, str]]:
    """What was asked, without what the rest of the page tells."""
    text = {"schema", "version", "models", "names", "settings", "versions", "strict"}
    settings = {key: value for key, value in run.plan.items() if key not in text and value not in (None, [], "")}
    nested = {key: run.plan[key] for key in ("settings", "versions") if isinstance(run.plan.get(key), dict)}
    for part in nested.values():
        settings |= {key: value for key, value in part.items() if not isinstance(value, dict) and value is not None}
    shown = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in settings.items()}
    return settings_rows(shown)


def _data(run: Run, columns: Columns, answers: Answers, words: dict[str, Any]) -> dict[str, Any]:
    """What the page's scripts know from the start."""
    kinds = [("attention", False), ("attribution", False), ("attribution", True)]
    scales = [
        MapView("", kind, "", "", columns.values[:0], 0.0, 1.0, signed=signed, clipped=False) for kind, signed in kinds
    ]
    tables = palettes(scales)
    return {
        "models": run.models,
        "shard": int(run.plan.get("shard_size", 1)),
        "total": run.total,
        "columns": columns.keys,
        "labels": answers.labels,
        "groups": GROUPS,
        "palettes": tables,
        "gradients": dict(zip(tables, map(gradient_css, scales), strict=True)),
        "words": words,
        "details": _details(run),
    }


def _details(run: Run) -> dict[int, list[str]]:
    """Image -> files of its full pages."""
    found: dict[int, list[str]] = {}
    for path in sorted((run.folder / "details").glob("*.html")):
        number = path.name.split("-", 1)[0]
        if number.isdecimal():
            found.setdefault(int(number), []).append(path.name)
    return found
