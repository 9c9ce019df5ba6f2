"""The command line as a whole: speed, help, exit codes, completion, info."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnviz import __version__
from attnviz.cli import main
from attnviz.errors import ImageError

ROOT = Path(__file__).parents[2]


def python(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own words
        [sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120,
        env={**os.environ, **extra},
    )  # fmt: skip


@pytest.mark.parametrize("words", ["--help", "--version", "explain --help"])
def test_help_imports_nothing_heavy(words):
    code = (
        f"import sys; sys.argv = ['attnviz', *{words.split()!r}]\n"
        "from attnviz.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr)\n"
    )
    result = python("-c", code)
    assert result.returncode == 0
    heavy = {"torch", "numpy", "rich", "captum", "cv2", "seaborn", "matplotlib", "jinja2", "PIL", "pandas"}
    assert not heavy & set(result.stderr.split())


def test_help_lists_every_command_with_a_line(run):
    result = run("--help")
    assert result.exit_code == 0
    for name in main.COMMANDS:
        assert f"\n  {name} " in result.output


def test_every_command_in_the_table_is_there(run):
    for name in main.COMMANDS:
        result = run(name, "--help")
        assert result.exit_code == 0, name
        assert result.output.startswith(f"Usage: attnviz {name} ")


def test_version(run):
    assert run("--version").output == f"attnviz {__version__}\n"


def test_an_unknown_command_is_a_usage_error_with_a_suggestion(run):
    result = run("explian")
    assert result.exit_code == 2
    assert "No such command 'explian'. Did you mean explain?" in result.stderr


def test_an_unknown_option_is_a_usage_error_with_a_suggestion(run):
    result = run("explain", "a.png", "--modle", "cbam")
    assert result.exit_code == 2
    assert "--model" in result.stderr


def test_errors_of_attnviz_are_one_line_and_exit_code_1(run, monkeypatch):
    def fail(*_args, **_options):
        raise ImageError("a.png: first\nand second")

    monkeypatch.setattr("attnviz.report.explanation.folder.check_folder", fail)
    result = run("explain", str(ROOT / "sample_data" / "rocket.jpg"))
    assert result.exit_code == 1
    assert result.stderr == "Error: a.png: first and second\n"
    assert result.stdout == ""


def test_other_errors_keep_their_traceback(run, monkeypatch):
    def fail(*_args, **_options):
        raise ZeroDivisionError

    monkeypatch.setattr("attnviz.report.explanation.folder.check_folder", fail)
    assert isinstance(run("explain", str(ROOT / "sample_data" / "rocket.jpg")).exception, ZeroDivisionError)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run, shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_ATTNVIZ_COMPLETE" in result.output


def test_completion_of_another_shell_is_a_usage_error(run):
    assert run("completion", "tcsh").exit_code == 2


def test_completion_lists_commands_and_options():
    code = "from attnviz.cli.main import main; main()"
    commands = python("-c", code, _ATTNVIZ_COMPLETE="bash_complete", COMP_WORDS="attnviz ex", COMP_CWORD="1")
    assert commands.stdout.split() == ["plain,explain"]
    options = python("-c", code, _ATTNVIZ_COMPLETE="bash_complete", COMP_WORDS="attnviz explain --me", COMP_CWORD="2")
    assert options.stdout.split() == ["plain,--methods", "plain,--mean"]


class TestInfo:
    def test_it_prints_versions_devices_and_kernels(self, run):
        result = run("info")
        assert result.exit_code == 0
        for word in ("versions", f"attnviz        {__version__}", "devices", "cpu", "kernels"):
            assert word in result.output

    def test_it_prints_json(self, run):
        facts = json.loads(run("info", "--json").output)
        assert facts["versions"]["attnviz"] == __version__
        assert facts["versions"]["torch"].startswith("2.")
        assert facts["kernels"]["cpu"] in {"avx512", "avx2", "portable", "reference"}

    def test_each_kernel_is_compared_with_its_reference_on_request(self, run):
        facts = json.loads(run("info", "--self-test", "--json").output)
        assert facts["self-test"]
        assert all(result.startswith("passed, error ") for result in facts["self-test"].values())
        assert "self-test" not in json.loads(run("info", "--json").output)

    def test_a_missing_package_is_said(self, run, monkeypatch):
        monkeypatch.setattr("attnviz.cli.info.PACKAGES", ("surely-not-installed",))
        assert json.loads(run("info", "--json").output)["versions"]["surely-not-installed"] == "not installed"
