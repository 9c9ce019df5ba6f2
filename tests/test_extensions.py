"""A package from outside adds one entry of each kind, and every command shows it: the steps of CONTRIBUTING.md."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SAMPLE = TESTS.parent / "sample_data" / "rocket.jpg"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that, on the path, has the metadata of the installed plugin, and the folder of its code."""
    folder = tmp_path_factory.mktemp("site-packages")
    project = tomllib.loads((TESTS / "plugin" / "pyproject.toml").read_text())["project"]
    metadata = folder / f"attnviz_plugin-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: attnviz-plugin\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return os.pathsep.join(map(str, (folder, TESTS / "plugin", TESTS / "cli", TESTS.parent)))


@pytest.fixture
def attnviz(installed, tmp_path):
    """Run a command in a process of its own; return its output without the box characters of tables."""

    def run(*words: object) -> str:
        result = subprocess.run(  # noqa: S603  # arguments of the tests
            [sys.executable, "-m", "attnviz.cli.main", *map(str, words)],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": installed, "COLUMNS": "200"}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return re.sub(r"\s+", " ", result.stdout)

    return run


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("explain", ("gradient_energy",)),
        ("compare", ("gradient_energy",)),
        ("sparsity", ("top_tenth",)),
        ("report", ("gradient_energy",)),
    ],
)
def test_help_lists_the_entries(attnviz, command, names) -> None:
    text = attnviz(command, "--help")
    for name in names:
        assert name in text


def test_explain_shows_a_new_kind_with_its_map_a_method_and_measures(attnviz, tmp_path) -> None:
    methods = "gradient_energy,saliency"
    words = ("--model", "highway", "--weights", "none", "--methods", methods, "--format", "html,json", "--out", "o")
    attnviz("explain", SAMPLE, *words)
    document = json.loads((tmp_path / "o" / "explanation.json").read_text())
    assert [site["kind"] for site in document["sites"]] == ["highway"]
    assert "top_tenth" in json.dumps(document["scores"])
    page = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    for text in (
        "highway gate", "0 keeps the input, 1 replaces it by its transform.", "Transform gates",  # kind
        "Where the transformed value replaces the input",  # projection
        "Gradient energy", "squared gradient, summed over colours",  # method
        "Top tenth", "the strongest tenth of the entries holds",  # measure of sparsity
        "Sign agreement", "both maps lie on the same side of their means",  # measure of agreement
    ):  # fmt: skip
        assert text in page, text


def test_compare_shows_a_new_method_and_measure(attnviz, tmp_path) -> None:
    words = ("--model", "tiny_model:build", "--methods", "gradient_energy", "--metrics", "insertion")
    attnviz("compare", SAMPLE, *words, "--format", "html,json", "--out", "o")
    found = json.loads((tmp_path / "o" / "comparison.json").read_text())
    assert any(row["name"].endswith("gradient_energy") for row in found["rows"])
    assert "sign_agreement" in json.dumps(found["agreement"])
    page = (tmp_path / "o" / "comparison.html").read_text(encoding="utf-8")
    assert "squared gradient, summed over colours" in page
    assert "both maps lie on the same side of their means" in page


def test_sparsity_shows_a_new_measure_and_edit(attnviz, tmp_path) -> None:
    words = ("--model", "tiny_model:build", "--causal", "--format", "html,json")
    attnviz("sparsity", SAMPLE, SAMPLE.with_name("chelsea.png"), *words, "--out", "o")
    for name, texts in (
        ("json", ("half.kl", "g.top_tenth")),
        ("html", ("half: KL", "Every entry is halved.", "tenth")),
    ):
        found = (tmp_path / "o" / f"sparsity.{name}").read_text(encoding="utf-8")
        assert all(text in found for text in texts), name


def test_report_holds_a_new_mechanism_method_and_measures(attnviz, tmp_path) -> None:
    words = ("--model", "simam", "--weights", "none", "--methods", "gradient_energy", "--export", "csv")
    attnviz("report", SAMPLE, *words, "--out", "o")
    table = (tmp_path / "o" / "measures.csv").read_text(encoding="utf-8")
    for name in ("top_tenth", "sign_agreement", "gradient_energy"):
        assert name in table
    assert "squared gradient, summed over colours" in (tmp_path / "o" / "index.html").read_text(encoding="utf-8")


def test_a_projection_and_an_edit_are_found_by_name(installed) -> None:
    code = (
        "import attnviz, torch\n"
        "from attnviz.models import load_model\n"
        "vision = load_model('simam', weights='none')\n"
        "x = torch.rand(1, 3, 224, 224)\n"
        "with attnviz.capture(vision.module) as captured: vision.module(x)\n"
        "print(attnviz.project(captured.records[0], method='dense-variance').values.shape)\n"
        "with attnviz.intervene(vision.module, {'*': 'half'}) as done: vision.module(x)\n"
        "print(len(done.edits))\n"
    )
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": installed}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.stdout.split("\n")[:2] == ["torch.Size([1, 7, 7])", "2"], result.stderr
