"""Diagnoses of gates, heads and tokens: hand-worked numbers, slow twins, networks whose answer is known."""

import itertools
import math
from contextlib import suppress

import pytest
import torch
from model_state import state_of
from torch import Tensor, nn

from attnviz import capture, find_attention
from attnviz.analyses.accumulators import Between, Tally, added, restored, stored
from attnviz.analyses.sparsity_collector import MeasureSelection, SparsityCollector, rank_correlation
from attnviz.core.records import Record
from attnviz.errors import UnknownNameError
from attnviz.metrics.agreement import spearman
from attnviz.metrics.attention_sinks import blocks_of, high_norm, norms_of_blocks, sinks, token_norms
from attnviz.metrics.concentration import lorenz
from attnviz.metrics.gate_diagnostics import dead, input_share, never_used, saturated
from attnviz.metrics.head_similarity import cka, clusters, cosine, hsic, jensen_shannon
from attnviz.metrics.sorted_maps import SortedMaps
from attnviz.metrics.sparsity import SPARSITY
from attnviz.metrics.streaming import Extremes, Moments


def rows(*shape: int, seed: int = 0) -> Tensor:
    """Random rows of attention."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(-1)


# Gates


def test_a_dead_gate_is_closed_and_a_saturated_one_open_for_every_image() -> None:
    g = torch.tensor([[0.0, 0.995, 0.3, 0.01, -0.5], [0.005, 1.0, 0.999, 0.02, 0.0]])
    assert dead(Extremes.of(g)).tolist() == [True, False, False, False, False]
    assert saturated(Extremes.of(g)).tolist() == [False, True, False, False, False]
    assert dead(Extremes.of(g[:1]) + Extremes.of(g[1:]), closed=0.02).tolist() == [True, False, False, True, False]


def test_a_channel_is_never_used_if_nothing_passes_for_any_image_or_place() -> None:
    y = torch.tensor([[0.0, 1e-9, 3.0], [0.0, 0.0, -1.0], [0.0, 0.1, 0.0]])
    assert never_used(Extremes.of(y)).tolist() == [True, False, False]
    assert never_used(Extremes.of(torch.zeros(2, 3))).all()


def test_input_share_worked_by_hand() -> None:
    """Entries vary by 1 around means 1 and 4 over two images: within 4, between 4·2.25 = 9, so 4/13."""
    assert input_share(Moments.of(torch.tensor([[0.0, 3.0], [2.0, 5.0]]))) == pytest.approx(4 / 13)
    assert input_share(Moments.of(torch.tensor([[0.1, 0.9], [0.1, 0.9]]))) == 0
    assert input_share(Moments.of(torch.tensor([[0.1, 0.1], [0.9, 0.9]]))) == pytest.approx(1)


def test_input_share_is_its_slow_twin_over_shuffled_images() -> None:
    g = rows(7, 3, 4)
    total = g.double().var(correction=0)
    mean_over_images = g.double().mean(0)
    twin = 1 - mean_over_images.var(correction=0) / total
    assert input_share(Moments.of(g[:3]) + Moments.of(g[3:])) == pytest.approx(float(twin))


def test_a_gate_that_never_varies_has_no_variance_to_explain() -> None:
    assert math.isnan(input_share(Moments.of(torch.full((3, 4), 0.7))))
    assert math.isnan(input_share(Moments.of(torch.rand(1, 4))))


# Heads


def test_similarities_of_heads_are_their_slow_twins() -> None:
    p = rows(2, 3, 5, 6).double()
    cos, js, h = cosine(p), jensen_shannon(p), hsic(p)
    for n, i, j in itertools.product(range(2), range(3), range(3)):
        a, b = p[n, i], p[n, j]
        assert cos[n, i, j].item() == pytest.approx(float((a * b).sum() / (a.norm() * b.norm())), abs=1e-6)
        mixed = (a + b) / 2
        bits = sum(
            0.5 * float(a[r, k] * torch.log2(a[r, k] / mixed[r, k]) + b[r, k] * torch.log2(b[r, k] / mixed[r, k]))
            for r in range(5)
            for k in range(6)
        )
        assert js[n, i, j].item() == pytest.approx(bits / 5, abs=1e-6)
        assert h[n, i, j].item() == pytest.approx(slow_hsic(a, b), abs=1e-12)


def slow_hsic(a: Tensor, b: Tensor) -> float:
    """By its definition as an average over quadruples of different samples (Song et al. 2012, equation 3)."""
    one, other, m = a @ a.T, b @ b.T, len(a)
    total = 0.0
    for i, j, q, r in itertools.permutations(range(m), 4):
        total += float(one[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]))
    return total / (m * (m - 1) * (m - 2) * (m - 3))


def test_the_same_head_is_alike_and_heads_without_a_common_key_are_not() -> None:
    one = rows(1, 1, 5, 3)
    none = torch.zeros_like(one)
    same, other = torch.cat([one, none], -1), torch.cat([none, one], -1)
    stack = torch.cat([same, same, other], 1)
    torch.testing.assert_close(cosine(stack)[0, 0], torch.tensor([1.0, 1.0, 0.0]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(jensen_shannon(stack)[0, 0], torch.tensor([0.0, 0.0, 1.0]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(cka(hsic(stack).mean(0))[0], torch.ones(3).double())  # queries relate alike


def test_cka_of_a_head_that_treats_all_queries_alike_is_undefined() -> None:
    flat = torch.full((1, 1, 5, 6), 1 / 6)
    similarity = cka(hsic(torch.cat([rows(1, 1, 5, 6), flat], 1)).mean(0))
    assert similarity.isnan().tolist() == [[False, True], [True, True]]
    assert hsic(rows(1, 2, 3, 6)).isnan().all()


def test_clusters_are_by_mean_similarity() -> None:
    """0 and 1 are alike, 2 is alike to 1 alone: with both, the mean is (0.95 + 0.8) / 2 < 0.9."""
    similarity = torch.tensor([[1.0, 0.95, 0.8], [0.95, 1.0, 0.95 - 1e-3], [0.8, 0.95 - 1e-3, 1.0]])
    assert clusters(similarity) == [0, 0, 1]
    assert clusters(similarity, alike=0.8) == [0, 0, 0]
    assert clusters(torch.full((2, 2), math.nan)) == [0, 1]
    assert clusters(torch.ones(1, 1)) == [0]
    with pytest.raises(ValueError, match="square"):
        clusters(torch.ones(2, 3))


# Tokens


def test_a_sink_takes_more_than_its_share_of_the_mean_query() -> None:
    assert sinks(torch.tensor([[0.31, 0.3, 0.39], [1 / 3, 0.1, 0.5667]])).tolist() == [
        [True, False, True],
        [True, False, True],
    ]


def test_high_norm_is_by_the_images_own_median() -> None:
    norms = torch.tensor([[1.0, 1.1, 0.9, 4.5, 1.0], [4.5, 4.5, 4.5, 4.5, 4.5]])
    assert high_norm(norms).sum(1).tolist() == [1, 0]


def test_token_norms_read_every_usual_layout() -> None:
    tokens = torch.arange(24.0).reshape(1, 4, 6)
    wanted = tokens.norm(dim=2)
    for output in (tokens, (tokens, None), tokens.reshape(1, 2, 2, 6), tokens.reshape(1, 2, 2, 6).permute(0, 3, 1, 2)):
        got = token_norms(output)
        assert got is not None
        torch.testing.assert_close(got, wanted)
    assert token_norms("text") is None
    assert token_norms(torch.ones(2, 3)) is None
    assert token_norms(torch.ones(2, 3, 4, 5)) is None


class Attention(nn.Module):
    """Self-attention in which every query attends to the first token, and in a second head every token to itself."""

    def __init__(self, to_first: float) -> None:
        super().__init__()
        self.to_first = to_first

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.zeros(x.shape[0], 2, x.shape[1], x.shape[1]) + 0 * x.sum()
        scores[:, 0, :, 0] = self.to_first
        scores[:, 1] = 50 * torch.eye(x.shape[1])
        scores = scores + 1e-6 * (x @ x.mT)[:, None]
        return (scores.softmax(-1) @ x[:, None]).mean(1)


class Block(nn.Module):
    def __init__(self, to_first: float, times: float = 1.0) -> None:
        super().__init__()
        self.attention, self.times = Attention(to_first), times

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.attention(x)
        return torch.cat([y[:, :1] * self.times, y[:, 1:]], 1)


def transformer() -> nn.Module:
    return nn.Sequential(Block(50.0, times=50.0), Block(0.0)).eval()


def test_norms_are_of_the_block_around_the_attention_and_leave_no_hook() -> None:
    model, x = transformer(), torch.rand(2, 5, 4)
    sites = find_attention(model, x)
    blocks = blocks_of(model, sites)
    assert blocks == {"0.attention": "0", "1.attention": "1"}
    before = state_of(model)
    with norms_of_blocks(model, blocks.values()) as norms:
        model(x)
        assert high_norm(norms["0"]).tolist() == [[True, False, False, False, False]] * 2
    with suppress(AttributeError), norms_of_blocks(model, blocks.values()):
        model("no tensor")
    assert state_of(model) == before


# All of it, from records


def _tally(records: list[Record], images: int, asked: MeasureSelection) -> Tally:
    collector = SparsityCollector(images, asked)
    for record in records:
        collector(record)
    return collector.tally()


def test_a_tally_has_the_sink_and_the_heads_of_a_known_network() -> None:
    model, x = transformer(), torch.rand(3, 5, 4)
    with capture(model) as captured:
        model(x)
    tally = _tally(captured.records, 3, MeasureSelection(("gini", "effective_rank")))
    received = tally["0.attention", "received"].mean
    assert sinks(received).tolist() == [[True, False, False, False, False], [False] * 5]
    assert tally["0.attention", "g.gini"].mean.item() == pytest.approx(0.8, abs=1e-3)  # one of five, in both heads
    assert tally["0.attention", "g.effective_rank"].mean.item() == pytest.approx(3.0, abs=1e-2)  # 1 and 5
    assert tally["1.attention", "jensen_shannon"].mean[0, 1] > 0.5
    cosines = tally["", Between("cosine", (("0.attention", 2), ("1.attention", 2)))].mean
    assert cosines[1, 3].item() == pytest.approx(1.0, abs=1e-4)
    assert clusters(cosines) == [0, 1, 2, 1]


def test_tallies_of_batches_add_up_to_the_tally_of_all() -> None:
    model, x = transformer(), torch.rand(5, 5, 4)
    tallies = []
    for batch in (x, x[:2], x[2:]):
        with capture(model) as captured:
            model(batch)
        tallies.append(_tally(captured.records, len(batch), MeasureSelection(activations=True)))
    whole, total = tallies[0], added(tallies[2], restored(stored(tallies[1])))
    assert whole.keys() == total.keys()
    for key, value in whole.items():
        for field in value.__slots__:
            torch.testing.assert_close(
                getattr(value, field), getattr(total[key], field), msg=lambda m, k=key: f"{k}: {m}"
            )


class HandMade(nn.Module):
    """A channel gate of 8 channels that lets exactly 3 through, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        with torch.no_grad():
            self.fc.weight.fill_(1e-3)
            self.fc.bias.fill_(-200.0)
            self.fc.bias[[1, 4, 6]] = 200.0

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3))).sigmoid()[:, :, None, None]


def test_on_a_network_in_which_exactly_three_channels_pass_five_are_dead_and_never_used() -> None:
    model = HandMade()
    with capture(model) as captured:
        model(torch.rand(4, 8, 3, 3) + 0.1)
    tally = _tally(captured.records, 4, MeasureSelection())
    site = captured.records[0].name
    assert int((~dead(tally[site, "range"])).sum()) == 3
    assert int(saturated(tally[site, "range"]).sum()) == 3
    assert (~never_used(tally[site, "carried"])).nonzero().flatten().tolist() == [1, 4, 6]
    assert input_share(tally[site, "units"]) == pytest.approx(0, abs=1e-9)


def test_measures_of_maps_that_were_sorted_before_are_the_same() -> None:
    maps = torch.cat([rows(6, 37), -rows(2, 37, seed=1), torch.zeros(1, 37), torch.full((1, 37), math.nan)])
    maps[0, :20] = 0
    torch.testing.assert_close(SortedMaps(maps).lorenz(11), lorenz(maps, 11), equal_nan=True)
    for part in (maps, maps[:, :10], maps[:, :2]):
        prepared = SortedMaps(part)
        for name in SPARSITY:
            measure = SPARSITY[name]
            torch.testing.assert_close(measure.of_sorted(prepared), measure(part), equal_nan=True, msg=name)


def test_rank_correlation_is_that_of_every_pair() -> None:
    maps = rows(2, 3, 16)
    maps[0, 0, :8] = 0.1
    maps[1, 2] = 0.5
    full = rank_correlation(maps)
    for a, b in itertools.product(range(3), range(3)):
        wanted = spearman(maps[:, a].reshape(2, 4, 4), maps[:, b].reshape(2, 4, 4))
        torch.testing.assert_close(full[:, a, b], wanted, equal_nan=True)


def test_an_unknown_measure_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean gini"):
        MeasureSelection(("ginni",))
