"""Attention of other forms than those of libraries is found, with the right kind, or reported."""

import pytest
import torch
from attention_zoo import CASES
from zoo_pairwise import ConstantAttention

from attnviz import project
from attnviz.errors import CaptureError
from attnviz.recording import capture
from attnviz.tracing import find_attention

IMAGES = {"SpatialGroupEnhance", "SqueezeByEinsum", "GateByAddcmul", "GateByLerp", "GateOfTokens", "LinearEinsum"}


def build(name, n):
    cls, kinds, size = CASES[name]
    torch.manual_seed(0)
    return cls().eval(), kinds, torch.randn(n, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CASES)
def test_kinds_are_the_same_for_all_batch_sizes_and_the_run_is_the_plain_one(name):
    for n in (1, 2, 3):
        model, kinds, x = build(name, n)
        with torch.no_grad():
            plain = model(x)
            sites = find_attention(model, x)
            with capture(model, sites) as captured:
                torch.testing.assert_close(model(x), plain, rtol=1e-5, atol=1e-6)
        assert tuple(site.kind.value for site in sites) == kinds
        assert bool(sites.unclaimed) == (not kinds)
        assert len(captured.records) == len(kinds)
        for record in captured.records:
            assert record.verify() < 1e-5


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_maps_are_laid_on_the_plane_of_the_features(name):
    model, _, x = build(name, 2)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    assert project(captured.records[-1]).values.shape == (2, 8, 8)


def test_a_map_of_a_volume_is_refused():
    model, _, x = build("SqueezeBothOfVolume", 1)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    with pytest.raises(CaptureError, match=r"6 frames or slices of 8 × 8; take one of record\.g"):
        project(captured["spatial"][0])


def test_a_map_of_tokens_is_that_of_their_gate():
    model, _, x = build("GateOfTokens", 2)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    (record,) = captured.records
    assert torch.equal(project(record).values, record.g.view(2, 8, 8))


def test_attention_among_constants_is_reported_and_what_follows_is_found():
    torch.manual_seed(0)
    sites = find_attention(ConstantAttention().eval(), torch.randn(2, 16, 4, 4))
    assert [site.kind.value for site in sites] == ["pairwise"]
    assert [unclaimed.why for unclaimed in sites.unclaimed] == [
        "attention among values that do not depend on the input: it is the same for every image"
    ]


def test_a_map_of_positions_that_were_mixed_and_spread_again_is_refused():
    model, _, x = build("GateBehindPartitions", 1)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    with pytest.raises(CaptureError, match="positions of this gate on the image plane are unknown"):
        project(captured.records[0])
