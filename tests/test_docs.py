"""The documentation: its examples run, its tables list every registered name, and every public name has a page."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

import attnviz

ROOT = Path(__file__).parents[1]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WITH_EXAMPLES = [p for p in sorted((ROOT / "docs").rglob("*.md")) if ">>>" in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_of_a_page_run(path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(str(path), module_relative=False, optionflags=OPTIONS, verbose=False)
    assert tried > 0
    assert failed == 0


def test_every_public_name_is_documented_and_used_in_an_example() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"auto(?:function|class|exception):: attnviz\.(\w+)$", text, re.MULTILINE))
    assert set(attnviz.__all__) - documented == {"edits"}
    examples = "".join(re.findall(r"```pycon(.+?)```", text, re.DOTALL))
    assert [name for name in attnviz.__all__ if f"attnviz.{name}" not in examples] == []


def test_the_generated_page_lists_every_registered_name() -> None:
    from attnviz.attribution import METHODS
    from attnviz.edits import EDITS
    from attnviz.heatmaps.projection import PROJECTIONS
    from attnviz.metrics.agreement import AGREEMENT
    from attnviz.metrics.faithfulness import FAITHFULNESS
    from attnviz.metrics.localisation import LOCALISATION
    from attnviz.metrics.sparsity import SPARSITY
    from attnviz.models.mechanism import MODELS

    spec = importlib.util.spec_from_file_location("registry_tables", ROOT / "docs" / "registry_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.page()
    for registry in (METHODS, EDITS, PROJECTIONS, AGREEMENT, FAITHFULNESS, LOCALISATION, SPARSITY, MODELS):
        for name in registry:
            assert f"| `{name}` |" in text


def test_the_stub_lists_the_public_names() -> None:
    stub = (ROOT / "attnviz" / "__init__.pyi").read_text(encoding="utf-8")
    assert set(attnviz.__all__) == set(re.findall(r'^    "(\w+)",$', stub, re.MULTILINE))
    for name in attnviz.__all__:
        assert getattr(attnviz, name) is not None
    assert set(attnviz.__all__) <= set(dir(attnviz))
