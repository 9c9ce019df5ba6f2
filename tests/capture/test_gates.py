"""Gates are found by their operations and captured exactly, and their records are verified."""

import networks
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attnviz.core.records import Kind, Record
from attnviz.errors import ReconstructionError
from attnviz.recording import capture
from attnviz.tracing import find_attention


@pytest.mark.parametrize("name", networks.GATED)
def test_gates_of_the_literature_are_found_with_their_kind(name):
    sites = find_attention(networks.build(name), networks.images())
    assert [site.kind.value for site in sites] == networks.GATED[name][1]


@pytest.mark.parametrize("name", networks.PLAIN)
def test_products_that_are_no_gates_are_not_found(name):
    assert find_attention(networks.build(name), networks.images()) == []


@pytest.mark.parametrize("name", networks.GATED)
def test_outputs_are_bit_identical_and_records_reconstruct_them(name):
    model, x = networks.build(name), networks.images()
    sites = find_attention(model, x)
    plain = model(x)
    with capture(model, sites) as captured:
        assert torch.equal(model(x), plain)
    assert [record.site for record in captured.records] == sites
    for record in captured.records:
        assert record.verify(1e-6) <= 1e-6
        assert record.g.ndim == len(record.site.kind.axes[0])


@pytest.mark.parametrize("name", networks.GATED)
def test_a_different_g_changes_the_output(name):
    model, x = networks.build(name), networks.images()
    with capture(model) as captured:
        model(x)
    for record in captured.records:
        changed = record.site.use(record.g * 0.5, record.x)
        assert torch.allclose(changed, 0.5 * record.y, atol=1e-6)


def test_a_channel_gate_equals_the_formula_of_the_paper():
    model, x = networks.build("se"), networks.images()
    with capture(model) as captured:
        model(x)
    expected = torch.sigmoid(model.fc[2](torch.relu(model.fc[0](x.flatten(2).mean(2)))))
    (record,) = captured.records
    assert record.g.shape == (2, networks.C)
    assert torch.allclose(record.g, expected, atol=1e-6)
    assert torch.equal(record.x, x)


def test_a_spatial_gate_equals_the_formula_of_the_paper():
    model, x = networks.build("spatial-gate"), networks.images()
    with capture(model) as captured:
        model(x)
    pooled = torch.stack([x.amax(1), x.mean(1)], 1)
    assert torch.allclose(captured.records[0].g, torch.sigmoid(model.conv(pooled))[:, 0], atol=1e-6)


def test_values_that_the_model_overwrites_later_are_copied():
    model, x = networks.build("se-in-place"), networks.images()
    (site,) = find_attention(model, x)
    assert site.overwritten == {"x", "y"}
    with capture(model, [site]) as captured:
        model(x)
    (record,) = captured.records
    assert torch.allclose(record.x, model.conv(x), atol=1e-6)
    assert torch.allclose(record.y, record.g[:, :, None, None] * record.x)


def test_values_that_are_not_overwritten_are_not_copied():
    model, x = networks.build("se"), networks.images()
    (site,) = find_attention(model, x)
    assert site.overwritten == frozenset()
    with capture(model, [site]) as captured:
        y = model(x)
    assert captured.records[0].x.data_ptr() == x.data_ptr()
    assert captured.records[0].y is y


def test_verifying_a_record_with_another_g_is_an_error_with_its_name():
    model = nn.Sequential(networks.build("se"))
    with capture(model) as captured:
        model(networks.images())
    (record,) = captured.records
    wrong = type(record)(record.site, record.call, record.g + 0.1, record.x, record.y)
    with pytest.raises(ReconstructionError, match=r"^0: f\(g, x\) differs from the model's y by .* relative"):
        wrong.verify()


def test_a_record_with_a_g_of_the_wrong_shape_is_an_error():
    model, x = networks.build("se"), networks.images()
    (site,) = find_attention(model, x)
    with pytest.raises(ReconstructionError, match=r"\(root\): a channel map has 2 axes \(N, C\), got g of shape"):
        Record(site, 0, torch.ones(1, 8, 1, 1), x, x)


def test_gates_have_names_and_kinds_and_match_patterns():
    model = nn.Sequential(networks.build("cbam"), networks.build("residual"), networks.build("se"))
    sites = find_attention(model, networks.images())
    assert [site.name for site in sites] == ["0", "0#1", "2"]
    assert [site.kind for site in sites] == [Kind.CHANNEL, Kind.SPATIAL, Kind.CHANNEL]
    assert [site.squash for site in sites] == ["sigmoid"] * 3
    assert [site.matches("0*") for site in sites] == [True, True, False]
    assert [site.matches("channel") for site in sites] == [True, False, True]
    assert all("networks.py:" in site.source for site in sites)


def test_an_unbounded_gate_before_a_mean_over_channels_is_found():
    model = nn.Sequential(networks.build("focal-modulation"), networks.build("spatial-gate", 1))
    assert [site.kind for site in find_attention(model, networks.images())] == [Kind.DENSE, Kind.SPATIAL]


blocks = st.lists(st.sampled_from([*networks.GATED, *networks.PLAIN]), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(names=blocks, n=st.integers(1, 3), seed=st.integers(0, 100))
def test_all_gates_of_a_random_chain_of_blocks_are_found(names, n, seed):
    model = nn.Sequential(*(networks.build(name, seed + i) for i, name in enumerate(names)))
    x = networks.images(n, seed)
    found = [(site.module.split(".")[0], site.kind.value) for site in find_attention(model, x)]
    expected = [(str(i), kind) for i, name in enumerate(names) for kind in networks.GATED.get(name, (None, []))[1]]
    assert found == expected
    with torch.no_grad():
        plain = model(x)
        with capture(model) as captured:
            assert torch.equal(model(x), plain)
    assert all(record.verify(1e-5) <= 1e-5 for record in captured.records)
