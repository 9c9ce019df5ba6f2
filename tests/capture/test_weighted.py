"""Weighted sums of branches, kernels, positions and frames are found, and their records are verified."""

import pickle

import networks
import pytest
import timm
import torch
import weighted_networks
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from attnviz.core.records import Kind
from attnviz.recording import capture
from attnviz.tracing import WeightedSum, find_attention

EVERY = {**weighted_networks.WEIGHTED, **weighted_networks.CLIPS}


def network_and_input(name, n=2):
    shape = weighted_networks.CLIPS[name][2] if name in weighted_networks.CLIPS else None
    x = networks.images(n) if shape is None else weighted_networks.clips((n, *shape[1:]))
    return weighted_networks.build(name), x


def captured_of(name, n=2):
    model, x = network_and_input(name, n)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    return model, x, captured.records


@pytest.mark.parametrize("name", EVERY)
def test_weighted_sums_of_the_literature_are_found_with_their_kind(name):
    model, x = network_and_input(name)
    assert [site.kind.value for site in find_attention(model, x)] == EVERY[name][1]


@pytest.mark.parametrize("name", weighted_networks.UNWEIGHTED)
def test_sums_that_are_no_attention_are_not_found(name):
    assert find_attention(weighted_networks.build(name), networks.images()) == []


@pytest.mark.parametrize("name", EVERY)
def test_outputs_are_bit_identical_and_records_reconstruct_them(name):
    model, x = network_and_input(name)
    sites = find_attention(model, x)
    for run in (torch.no_grad, torch.enable_grad):
        with run():
            plain = model(x)
            with capture(model, sites) as captured:
                assert torch.equal(model(x), plain)
        assert all(record.verify(1e-6) <= 1e-6 for record in captured.records)
        assert all(record.g.ndim == len(record.site.kind.axes[0]) for record in captured.records)


@pytest.mark.parametrize("name", EVERY)
def test_sites_are_valid_for_other_batch_sizes(name):
    model, x = network_and_input(name)
    sites = find_attention(model, x)
    for n in (1, 3):
        assert find_attention(*network_and_input(name, n)) == sites
        model, x = network_and_input(name, n)
        with torch.no_grad(), capture(model, sites) as captured:
            model(x)
        assert all(record.verify(1e-6) <= 1e-6 for record in captured.records)
        assert all(record.g.shape[0] == n for record in captured.records)


@pytest.mark.parametrize("name", EVERY)
def test_the_output_is_linear_in_g(name):
    for record in captured_of(name)[2]:
        changed = record.site.use(record.g * 0.5, record.x)
        assert torch.allclose(changed, 0.5 * record.y, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_pickled_sites_are_equal(name):
    sites = find_attention(*network_and_input(name))
    assert pickle.loads(pickle.dumps(sites)) == sites


@pytest.mark.parametrize(
    ("name", "shape", "axis"),
    [
        ("sknet", (2, 2, 8), 1),
        ("sknet-branches-first", (2, 2, 8), 1),
        ("sknet-branches-third", (2, 2, 8), 1),
        ("sknet-one-weight", (2, 2, 1), 1),
        ("resnest", (2, 2, 8), 1),
        ("dynamic-conv", (2, 4, 1), 1),
        ("dynamic-conv-by-product", (2, 4, 1), 1),
        ("global-context", (2, 1, 36), 2),
        ("global-context-einsum", (2, 1, 36), 2),
        ("global-context-sum", (2, 1, 36), 2),
        ("several-glimpses", (2, 4, 36), 2),
        ("double-attention", (2, 3, 36), 2),
        ("separable-self-attention", (2, 4, 9), 2),
        ("local-self-attention", (2, 1, 36, 9), 3),
        ("temporal-sum", (2, 5), 1),
        ("temporal-bmm", (2, 5), 1),
        ("spatio-temporal", (2, 1, 18), 2),
    ],
)
def test_normalised_weights_sum_to_one_along_their_canonical_axis(name, shape, axis):
    g = captured_of(name)[2][0].g
    assert g.shape == shape
    assert torch.allclose(g.sum(axis), torch.ones(()), atol=1e-6)


def test_branch_weights_equal_the_formula_of_the_paper():
    model, x, (record,) = captured_of("sknet")
    a, b = (path(x) for path in model.paths)
    z = torch.relu(model.squeeze((a + b).flatten(2).mean(2)))
    scores = (z @ model.select.weight.T + model.select.bias).view(2, 2, 8).exp()
    assert torch.allclose(record.g, scores / scores.sum(1, keepdim=True), atol=1e-6)
    assert torch.equal(record.x, torch.stack([a, b], 1))


def test_branches_that_are_not_stacked_are_separate_sites_that_sum_to_one():
    _, _, (first, second) = captured_of("sknet-separate")
    assert first.g.shape == second.g.shape == (2, 1, 8)
    assert torch.allclose(first.g + second.g, torch.ones(()), atol=1e-6)
    _, _, (stacked,) = captured_of("sknet")
    assert torch.allclose(torch.cat([first.g, second.g], 1), stacked.g, atol=1e-6)


def test_routing_weights_are_the_weights_of_the_kernels():
    model, x, (record,) = captured_of("condconv")
    assert torch.allclose(record.g[..., 0], torch.sigmoid(model.route(x.mean((2, 3)))), atol=1e-6)
    first = sum(record.g[0, b, 0] * model.kernels[b] for b in range(4))
    expected = nn.functional.conv2d(x[:1], first, padding=1)
    assert torch.allclose(model(x)[:1], expected, atol=1e-5)


def test_a_context_vector_is_the_weighted_mean_of_positions():
    model, x, (record,) = captured_of("global-context")
    context = (record.g[:, 0].view(2, 1, 6, 6) * x).sum((2, 3))
    assert torch.allclose(record.y.view(2, 8), context, atol=1e-6)
    assert torch.allclose(model(x), x + model.transform(context[..., None, None]), atol=1e-6)


def test_weights_over_frames_are_temporal():
    model, x, (record,) = captured_of("temporal-sum")
    assert record.site.kind is Kind.TEMPORAL
    features = torch.stack([model.conv(frame).relu().mean((2, 3)) for frame in x.unbind(1)], 1)
    assert torch.allclose(record.g, model.score(features)[..., 0].softmax(1), atol=1e-6)
    assert torch.allclose(model(x), (record.g[..., None] * features).sum(1), atol=1e-6)


def test_gradients_with_respect_to_g_exist():
    model, x = network_and_input("global-context")
    with capture(model) as captured:
        y = model(x)
    (record,) = captured.records
    (gradient,) = torch.autograd.grad(y.sum(), record.g)
    expected = 36 * torch.einsum("oc,ncl->nl", model.transform.weight[:, :, 0, 0], x.flatten(2))
    assert torch.allclose(gradient[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_a_weighted_sum_has_one_operand():
    use = WeightedSum(Kind.TEMPORAL, "mul", 0, ((0,), (1,)), 2, (-2, -1))
    with pytest.raises(TypeError, match="a weighted sum has one operand, got 2"):
        use(torch.ones(1, 2), (torch.ones(1, 2), torch.ones(1, 2)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("skresnet18", {"branch": 8}),
        ("resnest14d", {"branch": 4}),
        ("gcresnext26ts", {"pooling": 8}),
        ("tf_efficientnet_cc_b0_4e", {"branch": 24, "channel": 16}),
    ],
)
def test_third_party_models_have_the_attention_of_their_papers(name, expected):
    torch.manual_seed(0)
    model, x = timm.create_model(name, pretrained=False).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad(), capture(model) as captured:
        y = model(x)
    kinds = [record.site.kind.value for record in captured.records]
    assert {kind: kinds.count(kind) for kind in kinds} == expected
    assert all(record.verify(1e-5) <= 1e-5 for record in captured.records)
    with torch.no_grad():
        assert torch.equal(model(x), y)


FOUND = {**networks.GATED, **weighted_networks.WEIGHTED}
blocks = st.lists(
    st.sampled_from([*weighted_networks.WEIGHTED, *weighted_networks.UNWEIGHTED, "se", "cbam", "residual"]),
    min_size=2,
    max_size=4,
)


@settings(max_examples=15, deadline=None)
@given(names=blocks, n=st.integers(1, 3), seed=st.integers(0, 100))
@example(names=["sknet", "se"], n=1, seed=0)
def test_all_weighted_sums_of_a_random_chain_of_blocks_are_found(names, n, seed):
    modules = [networks if name in {"se", "cbam", "residual"} else weighted_networks for name in names]
    model = nn.Sequential(*(module.build(name, seed) for module, name in zip(modules, names, strict=True)))
    x = networks.images(n, seed)
    found = [(site.module.split(".")[0], site.kind.value) for site in find_attention(model, x)]
    assert found == [(str(i), kind) for i, name in enumerate(names) for kind in FOUND.get(name, (None, []))[1]]
    with torch.no_grad(), capture(model) as captured:
        model(x)
    assert all(record.verify(1e-5) <= 1e-5 for record in captured.records)


@torch.no_grad()
def test_weights_of_unit_norm_over_positions_are_a_pooling_and_compared_unit_vectors_are_not():
    class Additive(nn.Module):
        """Shaker et al., ICCV 2023: one weight per position, with unit norm over positions (SwiftFormer)."""

        def __init__(self) -> None:
            super().__init__()
            self.query, self.weight = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 1))

        def forward(self, x):
            query = self.query(x.flatten(2).mT)
            weight = F.normalize(query @ self.weight, dim=1)
            return x + (weight * query).sum(1)[:, :, None, None]

    class Cosine(nn.Module):
        def forward(self, x):
            one = F.normalize(x.flatten(2).mT, dim=-1)
            return x * (one * one.roll(1, 1)).sum(-1).view(x.shape[0], 1, 6, 6)

    model, x = Additive().eval(), torch.randn(2, 8, 6, 6)
    (site,) = find_attention(model, x)
    assert (site.kind.value, site.squash, site.layout.keys.is_whole) == ("pooling", "normalize", True)
    with capture(model, [site]) as captured:
        model(x)
    (record,) = captured.records
    assert torch.allclose(record.g.norm(dim=-1), torch.ones(2, 1), atol=1e-6)
    assert record.verify(1e-6) <= 1e-6
    assert "normalize" not in [s.squash for s in find_attention(Cosine(), x)]
