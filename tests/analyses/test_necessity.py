"""Causal sparsity: curves that end where they must, a network in which exactly k channels matter, replacements."""

import pytest
import torch
from model_state import state_of
from torch import Tensor, nn

from attnviz import capture, edits, find_attention, intervene
from attnviz.analyses.ablation import Other, matters, replace
from attnviz.analyses.pruning import ALL, ORDERS, area, curves, holding, needed, outcome, prune, response, scopes
from attnviz.core.records import Kind, Site
from attnviz.core.token_layout import Layout
from attnviz.metrics.streaming import Moments
from attnviz.tracing import Gate

USED = [1, 4, 6]
EIGHTHS = tuple(k / 8 for k in range(9))


class KnownNetwork(nn.Module):
    """A gate that is open for all 8 channels, wider for some, and a classifier that reads exactly those."""

    def __init__(self, used: list[int] = USED) -> None:
        super().__init__()
        self.fc, self.classify = nn.Linear(8, 8), nn.Linear(8, 4)
        with torch.no_grad():
            self.fc.weight.fill_(1e-3)
            self.fc.bias.fill_(1.0)
            self.fc.bias[used] = 2.0
            self.classify.bias.zero_()
            self.classify.weight.zero_()
            # Together they carry the first class a little above the others; without one of them it falls below.
            self.classify.weight[0, used] = 40.0 / len(used)
            self.classify.bias[0] = -22.0

    def forward(self, x: Tensor) -> Tensor:
        gated = x * self.fc(x.mean((2, 3))).sigmoid()[:, :, None, None]
        return self.classify(gated.mean((2, 3)))


class TwoGates(nn.Module):
    """Two gates in a row with random weights, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.classify = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x * (3 * self.a(x.mean((2, 3)))).sigmoid()[:, :, None, None]
        x = torch.relu(x * (3 * self.b(x.mean((2, 3)))).sigmoid()[:, :, None, None])
        return 5 * self.classify(x.mean((2, 3)))


def images(n: int = 3) -> Tensor:
    return 0.7 + 0.1 * torch.rand(n, 8, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def two() -> tuple[nn.Module, list[Site]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TwoGates().eval()
    return model, find_attention(model, images())


def looks(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    with torch.no_grad(), capture(model) as captured:
        model(x)
    return {record.site.name: holding(record.g) for record in captured.records}


def test_on_a_network_in_which_exactly_three_channels_matter_three_are_needed() -> None:
    model = KnownNetwork().eval()
    (site,) = find_attention(model, images())
    assert matters(model, site, images()).nonzero().flatten().tolist() == USED
    tally = prune(model, [site], images(), looks(model, images()), shares=EIGHTHS)
    least, seen, gap = (tally[site.name, what] for what in ("needed", "looks", "gap"))
    assert (least.mean.item(), least.variance.item()) == (3 / 8, 0)
    assert seen.mean.item() == 1  # all eight hold the strength
    assert gap.mean.item() == 5 / 8


@pytest.mark.parametrize("used", [[0], [2, 3], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_k_channels_are_needed_for_every_k(used: list[int]) -> None:
    model = KnownNetwork(used).eval()
    (site,) = find_attention(model, images())
    assert int(matters(model, site, images(1), batch=3).sum()) == len(used)
    tally = prune(model, [site], images(), looks(model, images()), shares=EIGHTHS)
    assert tally[site.name, "needed"].mean.item() == len(used) / 8


def test_at_all_a_curve_is_the_plain_model_exactly_and_at_nothing_it_is_zero(two: tuple[nn.Module, list[Site]]) -> None:
    """The curves do not run their ends; this shows what running them would give."""
    model, sites = two
    plain = response(model, images())
    zeroed = response(model, images(), edits.zero, sites)
    for edit in ORDERS.values():
        assert torch.equal(response(model, images(), edit(1.0, torch.Generator()), sites), plain)
        assert torch.equal(response(model, images(), edit(0.0, torch.Generator()), sites), zeroed)
    for _, curve in curves(model, sites, images(), plain, (0, 0.5, 1)):
        for what, values in curve.items():
            assert torch.equal(values[:, 0], outcome(plain, zeroed)[what])
            assert torch.equal(values[:, -1], outcome(plain, plain)[what])
        assert curve["probability"][:, -1].tolist() == [1, 1, 1]
        assert curve["kl"][:, -1].tolist() == [0, 0, 0]


def test_a_curve_is_its_slow_twin(two: tuple[nn.Module, list[Site]]) -> None:
    model, sites = two
    x, plain = images(), response(model, images())
    curve = dict(curves(model, [sites[1]], x, plain, (0, 0.25, 1)))
    for order, keep in (("strongest", lambda g: g.topk(2).indices), ("weakest", lambda g: (-g).topk(2).indices)):

        def by_hand(g: Tensor, keep=keep) -> Tensor:
            kept = torch.zeros_like(g)
            for n, row in enumerate(g):
                kept[n, keep(row)] = row[keep(row)]
            return kept

        with torch.no_grad(), intervene(model, {sites[1].name: by_hand}, [sites[1]]):
            p = model(x).softmax(1)
        target = plain.argmax(1)
        wanted = [float(p[n, t] / plain.exp()[n, t]) for n, t in enumerate(target)]
        assert curve[order]["probability"][:, 1].tolist() == pytest.approx(wanted, rel=1e-5)
        kl = (plain.exp() * (plain - p.log())).sum(1)
        torch.testing.assert_close(curve[order]["kl"][:, 1], kl, atol=1e-6, rtol=1e-5)


def test_areas_needs_and_looks_worked_by_hand() -> None:
    shares, curve = (0.0, 0.1, 0.5, 1.0), torch.tensor([[0.0, 1.0, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0]])
    assert area(shares, curve).tolist() == pytest.approx([0.05 + 0.3 + 0.375, 1.0])
    assert needed(shares, curve).tolist() == pytest.approx([1.0, 0.0])
    assert holding(torch.tensor([[95.0, 0, 5, 0], [0, 0, 0, 0]])).tolist() == pytest.approx(
        [0.25, float("nan")], nan_ok=True
    )
    assert holding(torch.full((1, 20), 0.1)).item() == 0.95


def test_the_random_choice_is_repeatable_and_seeded(two: tuple[nn.Module, list[Site]]) -> None:
    model, sites = two
    plain = response(model, images())

    def random(seed: int) -> Tensor:
        return dict(curves(model, sites, images(), plain, (0, 0.5, 1), seed))["random"]["kl"]

    assert torch.equal(random(1), random(1))
    assert not torch.equal(random(1), random(2))


@pytest.mark.parametrize("shares", [(0, 0.5), (0.1, 1), (0, 0.5, 0.5, 1), (1,)])
def test_shares_increase_from_0_to_1(shares: tuple[float, ...], two: tuple[nn.Module, list[Site]]) -> None:
    model, sites = two
    with pytest.raises(ValueError, match="increase from 0 to 1"):
        next(iter(curves(model, sites, images(), response(model, images()), shares)))


def test_another_images_g_is_the_next_images(two: tuple[nn.Module, list[Site]]) -> None:
    model, sites = two
    with torch.no_grad(), capture(model, sites) as captured:
        model(images())
    seen = []
    with torch.no_grad(), intervene(model, {sites[0].name: Other(3)}, sites), capture(model, sites) as edited:
        seen.append(model(images()))
    torch.testing.assert_close(edited.records[0].g, captured.records[0].g[[1, 2, 0]])
    with pytest.raises(ValueError, match="2 or more, got 1"):
        Other(1)


def test_another_images_g_of_a_pooling_map_with_heads() -> None:
    layout = Layout(windows=1, heads=2, queries=None, keys=None)
    site = Site("pool", 0, Kind.POOLING, "matmul", 0, Gate(Kind.CHANNEL, 1, 1), layouts=(layout,))
    g = torch.rand(3, 2, 5)
    assert torch.equal(Other(3).at(edits.Moment(site, 0, g))(g), g[[1, 2, 0]])


def test_replacing_a_gate_by_its_mean_changes_nothing_where_it_never_changes() -> None:
    """The mean of the images is then the gate of each image."""
    model = KnownNetwork().eval()
    with torch.no_grad():
        model.fc.weight.zero_()
    sites = find_attention(model, images())
    tally = replace(model, sites, images(), edits.mean_over(model, [images()], sites))
    name = sites[0].name
    assert tally[name, "mean.probability"].mean.item() == pytest.approx(1, abs=1e-6)
    assert tally[name, "other.kl"].mean.item() == pytest.approx(0, abs=1e-6)
    assert tally[name, "uniform.probability"].mean.item() < 0.999


def test_every_scope_has_every_number_and_the_model_is_left_alone(two: tuple[nn.Module, list[Site]]) -> None:
    model, sites = two
    model.train()
    before = state_of(model)
    done: list[str] = []
    tally = prune(model, sites, images(), looks(model, images()), (0, 0.5, 1), advance=done.append)
    tally |= replace(model, sites, images(1))
    assert state_of(model) == before
    assert list(scopes(sites)) == done == [*(site.name for site in sites), ALL]
    for scope in done:
        for order in ORDERS:
            curve = tally[scope, f"pruned.{order}.top1"]
            assert isinstance(curve, Moments)
            assert curve.mean.shape == (3,)
        assert (scope, "uniform.kl") in tally
        assert (scope, "other.kl") not in tally  # of one image
