"""``attnviz open``: a report in the browser, served from this machine to this machine."""

import webbrowser
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import click

from attnviz.errors import DataError, OutputError

HOST = "127.0.0.1"
PAGES = ("index.html", "report.html", "comparison.html", "sparsity.html")
"""Pages of a report's folder; the first that exists is opened."""


@click.command(short_help="Open a report in the browser.")
@click.argument("report", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to serve at.  [default: any that is free]")
@click.option("--no-browser", is_flag=True, help="Only serve, and print the address.")
def command(report: Path, port: int, *, no_browser: bool) -> None:
    """Open a report: a folder that attnviz wrote, or one of its pages. Ctrl-C ends it.

    \b
    attnviz open out/
    attnviz open chelsea/report.html --no-browser --port 8000
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    folder, page = find_page(report)
    with serving(folder, port) as server:
        address = f"http://{HOST}:{server.server_address[1]}/{quote(page)}"
        click.echo(f"{address}\nCtrl-C ends it.")
        if not no_browser and not webbrowser.open(address):
            click.echo("No browser was found: open the address yourself.", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("Ended.")


def find_page(report: Path) -> tuple[Path, str]:
    """The folder to serve, and the page in it to open.

    Raises:
        DataError: there is no such folder or page, or no page in the folder.
    """
    if report.is_file():
        if report.suffix.lower() not in {".html", ".htm"}:
            raise DataError(f"{report}: wanted a report's folder or an HTML page")
        return report.resolve().parent, report.name
    if not report.is_dir():
        raise DataError(f"{report}: there is no such report")
    own = sorted(path.name for path in report.glob("*.html"))
    page = next((name for name in PAGES if name in own), own[0] if len(own) == 1 else None)
    if page is None:
        inner = sorted(path for name in PAGES for path in report.glob(f"*/{name}"))
        hint = f"; there is one in {inner[0].parent}" if inner else ""
        hint = "; attnviz report writes it when the run ends" if (report / "plan.json").is_file() else hint
        raise DataError(f"{report}: holds no page of a report{hint}")
    return report.resolve(), page


def serving(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a running server of a folder that accepts connections only from this machine.

    Raises:
        OutputError: the port is in use or not permitted.
    """
    try:
        return _Server((HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise OutputError(f"port {port}: cannot be served at: {error.strerror or error}") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a browser that keeps a connection does not hold up the end


class _Handler(SimpleHTTPRequestHandler):
    """Serves the files of one folder: no directory lists, no links to the outside, no requests of other sites."""

    def send_head(self) -> Any:
        """The file, or an error."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in {HOST, "localhost"}:  # another site's name that was made to lead here
            return self._refuse(HTTPStatus.FORBIDDEN)
        root = Path(self.directory).resolve()
        if not Path(self.translate_path(self.path)).resolve().is_relative_to(root):
            return self._refuse(HTTPStatus.NOT_FOUND)
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        """No list of files."""
        self._refuse(HTTPStatus.NOT_FOUND)

    def _refuse(self, status: HTTPStatus) -> IO[bytes] | None:
        self.send_error(status)
        return None

    def end_headers(self) -> None:
        """With headers that keep a report between the browser and this server."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, *_args: Any) -> None:
        """Nothing: the terminal is the reader's."""
