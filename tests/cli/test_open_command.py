"""``attnviz open``: which page of a folder, served to this machine alone, ended by Ctrl-C."""

import http.client
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from attnviz.cli.main import cli
from attnviz.cli.open import find_page, serving
from attnviz.errors import DataError


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "a report"
    (folder / "page").mkdir(parents=True)
    (folder / "index.html").write_text("<title>here</title>")
    (folder / "page" / "app.js").write_text("1;")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@contextmanager
def served(folder):
    """The folder, at a free port."""
    with serving(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def get(port, path, host=None):
    """Status, body and headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return found


class TestPages:
    @pytest.mark.parametrize("name", ["index.html", "report.html", "comparison.html", "sparsity.html", "other.html"])
    def test_a_folder_is_opened_at_its_page(self, tmp_path, name):
        (tmp_path / name).touch()
        assert find_page(tmp_path) == (tmp_path, name)

    def test_the_page_of_the_whole_comes_first(self, tmp_path):
        for name in ("report.html", "index.html", "a.html"):
            (tmp_path / name).touch()
        assert find_page(tmp_path)[1] == "index.html"

    def test_a_page_is_opened_in_its_folder(self, tmp_path):
        (tmp_path / "x y.html").touch()
        assert find_page(tmp_path / "x y.html") == (tmp_path, "x y.html")

    def test_a_file_that_is_no_report_is_an_error(self, tmp_path):
        with pytest.raises(DataError, match="nowhere: there is no such report"):
            find_page(tmp_path / "nowhere")
        with pytest.raises(DataError, match=r"holds no page of a report$"):
            find_page(tmp_path)
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat" / "report.html").touch()
        with pytest.raises(DataError, match=r"holds no page of a report; there is one in .*cat$"):
            find_page(tmp_path)
        (tmp_path / "plan.json").touch()
        with pytest.raises(DataError, match="attnviz report writes it when the run ends"):
            find_page(tmp_path)
        with pytest.raises(DataError, match="wanted a report's folder or an HTML page"):
            find_page(tmp_path / "plan.json")


class TestServer:
    def test_it_serves_the_folder_and_keeps_nothing_in_caches(self, report):
        with served(report) as port:
            status, body, headers = get(port, "/index.html")
            assert (status, body) == (200, "<title>here</title>")
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Content-Type-Options"] == "nosniff"
            status, body, headers = get(port, "/page/app.js")
            assert (status, body) == (200, "1;")
            assert headers["Content-type"] == "text/javascript"

    @pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/page/", "/link.txt", "/nowhere"])
    def test_nothing_else_is_served_and_nothing_is_listed(self, report, path):
        (report / "link.txt").symlink_to(report.parent / "secret.txt")
        with served(report) as port:
            status, body, _ = get(port, path)
        assert status == 404
        assert "secret\n" not in body
        assert "app.js" not in body

    def test_another_sites_name_that_leads_here_is_refused(self, report):
        with served(report) as port:
            assert get(port, "/index.html", "evil.example:80")[0] == 403
            assert get(port, "/index.html", f"localhost:{port}")[0] == 200

    def test_it_listens_to_this_machine_alone(self, report):
        with serving(report, 0) as server:
            assert server.server_address[0] == "127.0.0.1"

    def test_a_port_that_is_taken_is_an_error(self, report):
        with serving(report, 0) as server:
            port = server.server_address[1]
            result = CliRunner().invoke(cli, ["open", str(report), "--port", str(port), "--no-browser"])
        assert result.exit_code == 1
        assert f"Error: port {port}: cannot be served at: Address already in use" in result.output


class TestCommand:
    def test_the_browser_is_opened_and_ctrl_c_is_a_clean_end(self, report, monkeypatch):
        opened = []
        monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)

        def interrupted(_server):
            raise KeyboardInterrupt

        monkeypatch.setattr("attnviz.cli.open._Server.serve_forever", interrupted)
        result = CliRunner().invoke(cli, ["open", str(report)])
        assert result.exit_code == 0
        assert result.output.endswith("Ended.\n")
        assert opened == [result.output.splitlines()[0]]
        assert opened[0].startswith("http://127.0.0.1:")
        assert opened[0].endswith("/index.html")

    def test_without_a_browser_the_address_is_printed(self, report, monkeypatch):
        monkeypatch.setattr("webbrowser.open", lambda _address: False)
        monkeypatch.setattr("attnviz.cli.open._Server.serve_forever", lambda _server: None)
        result = CliRunner().invoke(cli, ["open", str(report)])
        assert "open the address yourself" in result.output

    def test_it_serves_until_it_is_interrupted(self, report):
        code = (
            "import signal\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a parent in the background ignores it
            "from attnviz.cli.main import main; main()"
        )
        words = [sys.executable, "-u", "-c", code, "open", str(report), "--no-browser"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            address = process.stdout.readline().strip()
            port = int(address.split(":")[2].split("/")[0])
            assert get(port, "/index.html")[1] == "<title>here</title>"
            os.kill(process.pid, signal.SIGINT)
            try:
                assert process.communicate(timeout=20)[0].endswith("Ended.\n")
            finally:
                process.kill()  # if it is still there
            assert process.returncode == 0
        with pytest.raises(ConnectionRefusedError):
            get(port, "/index.html")

    def test_a_report_that_is_not_there_is_one_line(self, tmp_path):
        result = CliRunner().invoke(cli, ["open", str(tmp_path / "x")])
        assert (result.exit_code, result.output.strip()) == (1, f"Error: {tmp_path / 'x'}: there is no such report")
