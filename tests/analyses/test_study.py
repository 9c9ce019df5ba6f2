"""A study: batches add up, an interrupted one goes on, the numbers of a known network are right."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_state import state_of
from test_necessity import KnownNetwork, TwoGates, images
from torch import Tensor, nn

from attnviz.analyses.sparsity_collector import MeasureSelection
from attnviz.analyses.sparsity_study import Batch, StudyConfig, study
from attnviz.core.sparsity_results import SparsityStudy
from attnviz.errors import NoAttentionError

EIGHTHS = tuple(k / 8 for k in range(9))


def batches(x: Tensor, size: int) -> list[Batch]:
    def loader(part: Tensor) -> Callable[[], Tensor]:
        return lambda: part

    return [loader(part) for part in x.split(size)]


def two_gates() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TwoGates().eval()


def same(one: object, other: object) -> bool:
    """Whether two findings are the same within rounding, NaN and all."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
    return one == other


def as_dict(*findings) -> dict:
    return SparsityStudy("", findings).as_dict()


def test_batches_add_up_to_the_study_of_all_images_at_once() -> None:
    model, x = two_gates(), images(6)
    config = StudyConfig(MeasureSelection(activations=True))
    whole = study(model, batches(x, 6), config)
    parts = study(model, batches(x, 2), config)
    assert same(as_dict(parts), as_dict(whole))


def test_the_known_network_needs_exactly_its_three_channels_though_its_gate_is_dense() -> None:
    found = study(KnownNetwork().eval(), batches(images(4), 2), StudyConfig(causal=True, shares=EIGHTHS))
    (site,), (causal,) = found.sites, found.causal
    assert (site.channels, site.never_used, site.dead, site.saturated) == (8, 0, 0, 0)
    assert causal.needed is not None
    assert (causal.needed.value, causal.needed.low, causal.needed.high) == (3 / 8, 3 / 8, 3 / 8)
    assert causal.gap is not None
    assert causal.gap.value == 5 / 8
    assert causal.curves["strongest.probability"].mean[-1] == 1
    assert causal.curves["random.kl"].mean[-1] == 0


def test_an_interrupted_study_goes_on_where_it_was(tmp_path: Path) -> None:
    model, config, keep = two_gates(), StudyConfig(causal=True, shares=(0, 0.5, 1)), tmp_path / "state"
    whole = study(model, batches(images(6), 2), config)

    class Interrupted(Exception):
        pass

    def stopping(after: int) -> list[Batch]:
        left = after

        def load(part: Tensor) -> Tensor:
            nonlocal left
            left -= 1
            if left < 0:
                raise Interrupted
            return part

        return [lambda part=part: load(part) for part in images(6).split(2)]  # type: ignore[misc]

    for after in (
        2,
        3,
    ):  # a part of the measurements, and of the interventions, is done; the first batch is always read
        with pytest.raises(Interrupted):
            study(model, stopping(after), config, keep=keep)
    assert keep.is_file()
    steps: list[str] = []
    resumed = study(model, stopping(3), config, keep=keep, progress=lambda part, *_: steps.append(part))
    assert "measure" not in steps
    assert "intervene" in steps
    assert same(as_dict(resumed), as_dict(whole))
    assert not keep.exists()


def test_what_was_kept_for_another_configuration_or_is_damaged_is_not_used(tmp_path: Path) -> None:
    model, keep = two_gates(), tmp_path / "state"
    keep.write_bytes(b"not a study")
    found = study(model, batches(images(4), 2), StudyConfig(), keep=keep, key="a")
    assert found.images == 4


def test_the_model_is_left_alone_also_after_an_error() -> None:
    model = two_gates().train()
    before = state_of(model)
    study(
        model, batches(images(2), 2), StudyConfig(MeasureSelection(activations=True), causal=True, shares=(0, 0.5, 1))
    )
    assert state_of(model) == before
    with pytest.raises((RuntimeError, IndexError)):
        study(model, [*batches(images(2), 2), lambda: torch.ones(2)], StudyConfig())
    assert state_of(model) == before


def test_a_model_without_attention_and_a_pattern_without_a_site_are_errors() -> None:
    with pytest.raises(NoAttentionError, match="no attention"):
        study(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)), batches(images(2), 2), StudyConfig())
    with pytest.raises(NoAttentionError, match=r"matches 'nothing\*'"):
        study(two_gates(), batches(images(2), 2), StudyConfig(sites="nothing*"))


def test_one_site_can_be_selected() -> None:
    found = study(two_gates(), batches(images(2), 2), StudyConfig(sites="(root)#1", causal=True, shares=(0, 0.5, 1)))
    assert [site.name for site in found.sites] == ["(root)#1"]
    assert [one.scope for one in found.causal] == ["(root)#1"]


def test_a_module_whose_name_holds_separators_is_a_name_like_others() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleDict({"a|b:2": nn.MultiheadAttention(8, 2, batch_first=True)})
            self.blocks["cosine 4×4"] = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).mT
            for block in self.blocks.values():
                tokens = tokens + block(tokens, tokens, tokens, need_weights=False)[0]
            return self.head(tokens.mean(1))

    model = Odd().eval()
    images_ = [lambda: torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))]
    found = study(model, images_, StudyConfig())
    names = [f"blocks.{name}·{head}" for name in ("a|b:2", "cosine 4×4") for head in (0, 1)]
    assert list(found.heads[0].names) == names
    assert [site.heads.count for site in found.sites] == [2, 2]
    assert list(found.agreement.names) == ["blocks.a|b:2", "blocks.cosine 4×4"]
