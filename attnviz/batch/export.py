"""A run's results in other formats: CSV, JSON, and the page as PDF."""

import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from attnviz.batch.plan import Plan
from attnviz.batch.store import Store
from attnviz.batch.summary import Summary
from attnviz.core.json_encoding import to_plain
from attnviz.errors import OutputError
from attnviz.media.atomic_files import write_atomically

FORMATS = ("csv", "json", "pdf")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_PDF_SECONDS = 180


def export(store: Store, plan: Plan, summary: Summary, formats: tuple[str, ...]) -> list[str]:
    """Write a complete run in other formats, into its folder; return the paths or URLs of the files.

    The names in :data:`FORMATS` stand for ``measures.csv`` and ``answers.csv``, ``report.json``, ``report.pdf``.

    Raises:
        OutputError: a file cannot be written; no Chromium, or no page, for a PDF.
    """
    files = []
    if "csv" in formats:
        files += [_stream(store, f"{table}.csv", _csv(store, table)) for table in ("measures", "answers")]
    if "json" in formats:
        files.append(_stream(store, "report.json", _json(store, plan, summary)))
    if "pdf" in formats:
        files.append(_pdf(store))
    return files


def _stream(store: Store, name: str, parts: Iterator[bytes]) -> str:
    """Write a file part by part, so that it need not fit into memory if the folder is local."""
    path = store.folder.path(name)
    if not store.folder.is_local:
        store.folder.write(name, b"".join(parts))
        return path

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.writelines(parts)

    write_atomically(Path(path), write)
    return path


def _csv(store: Store, table: str) -> Iterator[bytes]:
    from pyarrow import csv

    for number, rows in enumerate(store.all(table)):
        flat = rows.drop_columns(["top"]) if "top" in rows.column_names else rows
        sink = io.BytesIO()
        csv.write_csv(flat, sink, csv.WriteOptions(include_header=number == 0))
        yield sink.getvalue()


def _json(store: Store, plan: Plan, summary: Summary) -> Iterator[bytes]:
    """``{"schema", "version", "plan", "summary", "images": [...]}``: an image on each line."""

    def text(value: Any) -> str:
        return json.dumps(to_plain(value), ensure_ascii=False, allow_nan=False)

    head = {"schema": "attnviz.report", "version": 1, "plan": plan.as_dict(), "summary": summary.as_dict()}
    yield (text(head)[:-1] + ', "images": [').encode("utf-8", "replace")
    first = True
    for shard in sorted(store.done()):
        measures: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
        for row in store.get("measures", shard).to_pylist():
            kept = {key: row[key] for key in ("kind", "subject", "other", "measure", "value", "why")}
            measures.setdefault((row["item"], row["model"]), []).append(kept)
        answers = store.get("answers", shard).to_pylist()
        for item, of_models in groupby(answers, key=lambda row: (row["item"], row["image"], row["label"])):
            models = [
                {**{k: v for k, v in row.items() if k not in {"item", "image", "label"}},
                 "measures": measures.get((row["item"], row["model"]), [])}
                for row in of_models
            ]  # fmt: skip
            line = text(dict(zip(("item", "image", "label", "models"), (*item, models), strict=True)))
            yield (("\n" if first else ",\n") + line).encode("utf-8", "replace")
            first = False
    yield b"\n]}\n"


def browser(which: Callable[[str], str | None] = shutil.which) -> str:
    """Return the path of Chromium, or of the browser that ``CHROME`` names.

    Raises:
        OutputError: there is none.
    """
    named = os.environ.get("CHROME")
    found = next(filter(None, map(which, (*([named] if named else []), *BROWSERS))), None)
    if found is None:
        raise OutputError(
            "a PDF is printed by Chromium, which is not installed: install it, or set the environment variable CHROME"
        )
    return found


def _pdf(store: Store) -> str:
    if not store.folder.is_local:
        raise OutputError(f"{store.folder.root}: a PDF is printed from a local folder; copy the run first")
    page, target = (Path(store.folder.path(name)).absolute() for name in ("index.html", "report.pdf"))
    if not page.is_file():
        raise OutputError(f"{page}: there is no page to print")
    chromium = browser()
    with tempfile.TemporaryDirectory() as profile:
        made = Path(profile) / "report.pdf"
        words = [
            chromium, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--allow-file-access-from-files", "--virtual-time-budget=10000", "--no-pdf-header-footer",
            f"--user-data-dir={profile}/profile", f"--print-to-pdf={made}", page.as_uri(),
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            words.insert(1, "--no-sandbox")  # Chromium refuses a sandbox as root
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=_PDF_SECONDS)  # noqa: S603
            if not made.is_file():
                raise OutputError(f"{target}: {chromium} printed nothing")
            store.folder.write("report.pdf", made.read_bytes())
        except (subprocess.SubprocessError, OSError) as error:
            raise OutputError(f"{target}: {chromium} could not print it: {type(error).__name__}") from error
    return str(target)
