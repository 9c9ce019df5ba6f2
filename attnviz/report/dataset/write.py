"""Writing of a run's page: ``index.html``, and ``page/`` with its scripts, figures and data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnviz.media.atomic_files import write_files
from attnviz.report.core.colours import OPACITY, gradient_css
from attnviz.report.core.map_view import MapView
from attnviz.report.core.packing import packed
from attnviz.report.core.templating import settings_rows, template
from attnviz.report.core.viewer_data import GROUPS, palettes
from attnviz.report.dataset import overview
from attnviz.report.dataset.columns import Columns, gather, stride_of
from attnviz.report.dataset.figures import boxes, save
from attnviz.report.dataset.js_data import write_call
from attnviz.report.dataset.outliers import cards, outlier_lists
from attnviz.report.dataset.predictions import Predictions, read_predictions
from attnviz.report.dataset.run_folder import Run, open_run
from attnviz.report.dataset.shard_data import write_parts

PAGE, INDEX = "page", "index.html"
SCRIPTS_BEFORE_INDEX = ("theme", "viewer", "gallery_data")
SCRIPTS_AFTER_INDEX = ("gallery", "image_view")
STYLES = ("report", "viewer", "gallery")


def write(folder: str | Path) -> Path:
    """Write the page of the completed shards of a run in a local folder, and return the path of ``index.html``.

    An earlier page is replaced once the new one is complete. It opens from the disk and from a server. Memory use is
    one shard and a few bytes per image. No other folder is read.

    Raises:
        DataError: the folder contains no run, or a damaged one.
        OutputError: the page cannot be written.
    """
    run = open_run(Path(folder))

    def fill(partial: Path) -> None:
        (partial / PAGE).mkdir()
        (partial / INDEX).write_text(_fill(run, partial / PAGE, partial / "columns"), encoding="utf-8")

    write_files(run.folder, (PAGE, INDEX), fill, "page", overwrite=True)
    return run.folder / INDEX


def _fill(run: Run, page: Path, scratch: Path) -> str:
    """Write the folder ``page``, and return the text of ``index.html``."""
    columns = gather(run, scratch)
    predictions, scripts = read_predictions(run, page)
    texts: dict[str, Any] = {}
    index = {key: at for at, key in enumerate(columns.keys)}
    for shard in run.shards:
        write_parts(run, shard, page, index, texts)
    for at, values in enumerate(columns.values[: len(columns.keys)]):
        write_call(page / f"columns/{at:06d}.js", "column", at, packed(values))
    for name in (*SCRIPTS_BEFORE_INDEX, *SCRIPTS_AFTER_INDEX):
        (page / f"{name}.js").write_text(template(f"{name}.js").render(), encoding="utf-8")
    (page / "page.css").write_text("\n".join(template(f"{name}.css").render() for name in STYLES), encoding="utf-8")
    lists = outlier_lists(run, columns, predictions)
    return template("gallery.html.j2").render(
        run=run,
        predictions=predictions,
        rows=overview.model_rows(run, columns, predictions),
        outliers=[(one.title, one.text, list(cards(run, one.members))) for one in lists],
        agreement=list(overview.agreement(columns, run)),
        figures=list(_figures(run, columns, predictions, page)),
        stride=stride_of(columns.values.shape[1]),
        settings=_settings(run),
        scripts=[f"{PAGE}/{name}.js" for name in (*SCRIPTS_BEFORE_INDEX, *scripts, *SCRIPTS_AFTER_INDEX)],
        data=_data(run, columns, predictions, texts),
        opacity=round(OPACITY * 100),
    )


def _figures(run: Run, columns: Columns, predictions: Predictions, page: Path) -> Iterator[dict[str, Any]]:
    (page / "figures").mkdir()
    for number, one in enumerate(boxes(run, columns, predictions)):
        file = f"figures/{number:03d}.png"
        width, height = save(one, page / file)
        yield {"group": one.group, "boxes": one, "src": f"{PAGE}/{file}", "width": width, "height": height}


def _settings(run: Run) -> list[tuple[str, str]]:
    """Return the settings of the run that no other part of the page shows."""
    excluded = {"schema", "version", "models", "names", "settings", "versions", "strict"}
    settings = {key: value for key, value in run.plan.items() if key not in excluded and value not in (None, [], "")}
    for part in ("settings", "versions"):
        nested = run.plan.get(part)
        if isinstance(nested, dict):
            plain = {key: one for key, one in nested.items() if not isinstance(one, dict) and one is not None}
            settings |= plain
    return settings_rows(settings)


def _data(run: Run, columns: Columns, predictions: Predictions, texts: dict[str, Any]) -> dict[str, Any]:
    """Return the data of the page's scripts that is part of ``index.html``."""
    kinds = [("attention", False), ("attribution", False), ("attribution", True)]
    none = columns.values[:0]
    scales = [MapView("", kind, "", "", none, 0.0, 1.0, signed=signed, clipped=False) for kind, signed in kinds]
    tables = palettes(scales)
    return {
        "models": run.models,
        "shard": run.shard_size,
        "total": run.total,
        "columns": columns.keys,
        "labels": predictions.labels,
        "groups": GROUPS,
        "palettes": tables,
        "gradients": dict(zip(tables, map(gradient_css, scales), strict=True)),
        "texts": texts,
        "details": _details(run),
    }


def _details(run: Run) -> dict[int, list[str]]:
    """Return image -> files of its full reports."""
    details: dict[int, list[str]] = {}
    for path in sorted((run.folder / "details").glob("*.html")):
        number = path.name.split("-", 1)[0]
        if number.isdecimal():
            details.setdefault(int(number), []).append(path.name)
    return details
