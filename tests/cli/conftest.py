"""A tiny model of our own that the commands load by name, and a way to run them."""

from inspect import signature
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from attnviz.cli.main import cli

SAMPLES = Path(__file__).parents[2] / "sample_data"
TINY = "tiny_model:build"


@pytest.fixture
def photo() -> str:
    return str(SAMPLES / "rocket.jpg")


class _BothStreams(Result):
    """``output`` with both streams, as from Click 8.2 on."""

    output = property(lambda self: self.stdout + self.stderr)


def run_cli(words: tuple[object, ...]) -> Result:
    """Run ``attnviz`` with standard error captured on its own, which Click 8.1 does only on request."""
    separate = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    result = CliRunner(**separate).invoke(cli, [str(word) for word in words], prog_name="attnviz")
    if separate:
        result.__class__ = _BothStreams
    return result


@pytest.fixture
def invoke_cli():
    return run_cli


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run ``attnviz`` in an empty folder; the tiny model can be imported."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str):
        return run_cli(words)

    return invoke


@pytest.fixture
def explain(run, photo):
    """``attnviz explain`` with the tiny model and the quickest settings by default."""

    def invoke(*words: str, image: str = photo, model: str = TINY, methods: str = "saliency", formats: str = "json"):
        return run("explain", image, "--model", model, "--methods", methods, "--format", formats, *words)

    return invoke
