"""Every registered measure, method, projection, kind and edit has a meaning, and results carry those that they show."""

import itertools

import pytest

from attnviz.attribution import METHODS
from attnviz.core import glossary
from attnviz.core.kinds import Kind
from attnviz.core.registry import Registry
from attnviz.edits import EDITS
from attnviz.heatmaps import PROJECTIONS
from attnviz.metrics.agreement import AGREEMENT
from attnviz.metrics.faithfulness import FAITHFULNESS
from attnviz.metrics.localisation import LOCALISATION
from attnviz.metrics.sparsity import SPARSITY
from attnviz.report.kinds import KIND_RENDERERS

MEASURES: tuple[Registry, ...] = (SPARSITY, AGREEMENT, FAITHFULNESS, LOCALISATION)
NAMES = [
    *(("measure", name) for registry in MEASURES for name in registry),
    *(("method", name) for name in METHODS),
    *(("map", name) for name in PROJECTIONS),
    *(("kind", name) for name in KIND_RENDERERS),
    *(("edit", name) for name in EDITS),
    *(("map", name) for name in ("spatial gates together", "attention of all layers together",
                                 "sampling of all layers together")),
]  # fmt: skip


@pytest.mark.parametrize(("category", "name"), NAMES, ids=[": ".join(one) for one in NAMES])
def test_every_entry_has_its_meaning_and_a_limitation(category, name) -> None:
    about = glossary.meaning(category, name)
    assert about.title
    assert about.title.strip() == about.title
    assert about.means.endswith(".")
    assert about.not_means.endswith(".")


@pytest.mark.parametrize("registry", MEASURES, ids=[one.kind for one in MEASURES])
def test_every_measure_has_a_range_and_a_direction(registry) -> None:
    for name in registry:
        measure = registry[name]
        assert measure.low < measure.high
        assert measure.higher_is
        assert measure.nan_when
        assert measure.function.__doc__.splitlines()[0].endswith((".", ":"))


def test_titles_are_unique_in_a_category() -> None:
    for category, group in itertools.groupby(sorted(set(NAMES)), key=lambda one: one[0]):
        titles = [glossary.title(category, name) for _, name in group]
        assert len(titles) == len(set(titles)), category


def test_every_kind_has_a_renderer_and_at_most_one_default_projection() -> None:
    assert {kind.value for kind in list(Kind)[:8]} <= set(KIND_RENDERERS)
    defaults = [PROJECTIONS[name].kind for name in PROJECTIONS if PROJECTIONS[name].default]
    assert len(defaults) == len(set(defaults))


def test_stored_meanings_are_restored_where_a_name_is_unknown() -> None:
    stored = glossary.entries([("measure", "gini"), ("measure", "not_a_measure")])
    assert list(stored) == ["measure:gini"]
    assert glossary.title("measure", "gini_of_elsewhere") == "gini of elsewhere"
    glossary.restore({"measure:gini_of_elsewhere": stored["measure:gini"], "measure:gini": {"title": "another"}})
    assert glossary.title("measure", "gini_of_elsewhere") == "Gini"
    assert glossary.title("measure", "gini") == "Gini"
