"""Sampling at predicted points is found; its points are pixels, and reconstruct the model's output."""

import math
import pickle

import networks
import pytest
import sampling_networks
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from attnviz.core.records import Kind
from attnviz.errors import CaptureError
from attnviz.explanation.notes import notes_of_views
from attnviz.recording import capture
from attnviz.tracing import DeformableSampling, GridSampling, find_attention


def captured_of(name, n=2):
    model, x = sampling_networks.build(name), networks.images(n)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    return model, x, captured.records


def bilinear(image, px, py):
    """Bilinear sampling of ``(C, H, W)`` at one point, zero outside: a slow reference."""
    total = torch.zeros(image.shape[0], dtype=torch.float64)
    for row in (math.floor(py), math.floor(py) + 1):
        for column in (math.floor(px), math.floor(px) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += image[:, row, column].double() * (1 - abs(py - row)) * (1 - abs(px - column))
    return total


@pytest.mark.parametrize("name", sampling_networks.SAMPLED)
def test_predicted_samplings_of_the_literature_are_found(name):
    sites = find_attention(sampling_networks.build(name), networks.images())
    assert [site.kind.value for site in sites] == sampling_networks.SAMPLED[name][1]


@pytest.mark.parametrize("name", sampling_networks.FIXED)
def test_sampling_at_fixed_points_is_not_found(name):
    assert find_attention(sampling_networks.build(name), networks.images()) == []


@pytest.mark.parametrize("name", sampling_networks.SAMPLED)
def test_outputs_and_their_reconstructions_are_bit_identical(name):
    model, x = sampling_networks.build(name), networks.images()
    sites = find_attention(model, x)
    for run in (torch.no_grad, torch.enable_grad):
        with run():
            plain = model(x)
            with capture(model, sites) as captured:
                assert torch.equal(model(x), plain)
        for record in captured.records:
            assert record.verify(1e-6 if record.site.kind is Kind.PAIRWISE else 0.0) <= 1e-6
            assert record.g.ndim == len(record.site.kind.axes[0])
            assert record.g.shape[0] == 2


@pytest.mark.parametrize("name", sampling_networks.SAMPLED)
def test_pickled_sites_are_valid_for_other_batch_sizes(name):
    model = sampling_networks.build(name)
    sites = find_attention(model, networks.images())
    assert find_attention(model, networks.images(1)) == sites
    with torch.no_grad(), capture(model, pickle.loads(pickle.dumps(sites))) as captured:
        model(networks.images(3))
    assert len(captured.records) == len(sites)
    assert all(record.verify(1e-6) <= 1e-6 and record.g.shape[0] == 3 for record in captured.records)


def test_an_identity_grid_gives_the_pixel_coordinates():
    grid = F.affine_grid(torch.eye(2, 3)[None], (1, 1, 3, 4), align_corners=False)
    g, _ = GridSampling("bilinear", "zeros", align_corners=False).read([torch.ones(1, 1, 3, 4), grid], {})
    assert g.shape == (1, 1, 3, 4, 2)
    assert torch.allclose(g[0, 0, :, :, 0], torch.arange(4.0, dtype=torch.float64).expand(3, 4), atol=1e-6)
    assert torch.allclose(g[0, 0, :, :, 1], torch.arange(3.0, dtype=torch.float64)[:, None].expand(3, 4), atol=1e-6)


@pytest.mark.parametrize(("aligned", "left", "right"), [(True, 0.0, 4.0), (False, -0.5, 4.5)])
def test_the_edges_of_a_grid_are_pixel_centres_or_borders(aligned, left, right):
    grid = torch.tensor([[[[-1.0, -1.0], [1.0, 1.0]]]])
    g, _ = GridSampling("bilinear", "zeros", aligned).read([torch.ones(1, 1, 5, 5), grid], {})
    assert g.flatten().tolist() == [left, left, right, right]


@pytest.mark.parametrize("name", ["stn", "stn-aligned-corners"])
def test_a_grid_sample_samples_the_map_at_g(name):
    _, x, (record,) = captured_of(name)
    for row, column in ((0, 0), (2, 5), (4, 3)):
        px, py = record.g[1, 0, row, column].tolist()
        assert torch.allclose(record.y[1, :, row, column].double(), bilinear(x[1], px, py), atol=1e-5)


@pytest.mark.parametrize("name", ["dcn-v1", "dcn-v2", "dcn-v1-groups", "dcn-strided"])
def test_a_deformable_convolution_samples_the_map_at_g(name):
    model, x, (record,) = captured_of(name)
    weight, bias = model.conv.weight.double(), model.conv.bias
    parts = dict(zip(record.site.use.parts, record.x, strict=True))
    taps = weight.shape[2] * weight.shape[3]
    per_group = networks.C // (record.g.shape[1] // taps)
    groups = networks.C // weight.shape[1]
    for row, column in ((0, 0), (2, 4)):
        samples = torch.zeros(networks.C, taps, dtype=torch.float64)
        for s in range(record.g.shape[1]):
            group, tap = divmod(s, taps)
            values = bilinear(x[1], *record.g[1, s, row, column].tolist())
            modulation = parts["mask"][1, s, row, column].double() if "mask" in parts else 1.0
            channels = slice(group * per_group, (group + 1) * per_group)
            samples[channels, tap] = (values * modulation)[channels]
        blocks = zip(weight.flatten(2).chunk(groups), samples.chunk(groups), strict=True)
        y = torch.cat([torch.einsum("oik,ik->o", w, block) for w, block in blocks])
        y = y if bias is None else y + bias.double()
        assert torch.allclose(record.y[1, :, row, column].double(), y, atol=1e-5)


def test_levels_of_deformable_attention_agree_with_the_fused_operator():
    _, _, (fine, coarse, weights) = captured_of("deformable-detr")
    _, _, (fused,) = captured_of("deformable-detr-fused")
    assert fine.g.shape == coarse.g.shape == (2, 2, 36, 3, 2)
    assert weights.g.shape == (2, 2, 36, 6)
    by_level = fused.g.squeeze(3).unflatten(1, (2, 2, 3)).permute(0, 1, 4, 2, 3, 5)
    # The implementation with one grid_sample per level rounds its normalised grid once more.
    assert torch.allclose(by_level, torch.stack([fine.g, coarse.g], 3), atol=1e-5)
    attention = fused.x[-1].transpose(1, 2).flatten(-2)
    assert torch.allclose(attention, weights.g, atol=1e-6)


def test_points_moved_by_one_pixel_sample_the_neighbour():
    x = torch.arange(12.0).view(1, 1, 3, 4)
    use = GridSampling("bilinear", "border", align_corners=True)
    g, _ = use.read([x, F.affine_grid(torch.eye(2, 3)[None], x.shape, align_corners=True)], {})
    moved = use(g + torch.tensor([1.0, 0.0]), x)
    assert torch.allclose(moved[0, 0], torch.tensor([[1.0, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]), atol=1e-5)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (224, 224)])
def test_a_grid_is_recovered_bit_for_bit_on_small_and_large_maps(size, aligned):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=generator)
    grid = torch.randn(2, 40, 40, 2, generator=generator)
    use = GridSampling("bilinear", "zeros", aligned)
    assert torch.equal(use(*use.read([x, grid], {})), F.grid_sample(x, grid, align_corners=aligned))


def test_half_precision_and_autocast_are_reconstructed():
    model, x = sampling_networks.build("stn").half(), networks.images().half()
    with torch.no_grad(), capture(model) as captured:
        model(x)
    (record,) = captured.records
    assert (record.g.dtype, record.verify(0.0)) == (torch.float32, 0.0)
    model, x = sampling_networks.build("dat"), networks.images()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), capture(model) as captured:
        model(x)
    assert captured.records[0].verify(1e-2) <= 1e-2


def test_nearest_neighbour_sampling_is_not_attention():
    model = sampling_networks.SpatialTransformer(mode="nearest")
    assert find_attention(model, networks.images()) == []


def test_gradients_with_respect_to_points_equal_finite_differences():
    model, x = sampling_networks.build("dcn-v1"), networks.images()
    with capture(model) as captured:
        y = model(x)
    (record,) = captured.records
    (gradient,) = torch.autograd.grad(y.sum(), record.g)
    moved = record.g.detach().clone()
    moved[0, 4, 2, 3, 0] += 1e-3
    with torch.no_grad():
        slope = (record.site.use(moved, record.x).double().sum() - record.y.double().sum()) / 1e-3
    assert float(gradient[0, 4, 2, 3, 0]) == pytest.approx(float(slope), abs=2e-2)


def test_a_missing_library_is_an_error_that_names_the_operation():
    use = DeformableSampling("missing_library.deform", (1, 1), (1, 1), (0, 0), (1, 1), ("input",))
    with pytest.raises(CaptureError, match=r"missing_library\.deform: to reconstruct its output, its library must be"):
        use(torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2))


def test_a_wrong_number_of_operands_is_an_error_with_both_numbers():
    use = GridSampling("bilinear", "zeros", align_corners=False)
    with pytest.raises(TypeError, match="this sampling has 1 operands, got 2"):
        use(torch.zeros(1, 1, 2, 2, 2), (torch.zeros(1), torch.zeros(1)))


blocks = st.lists(st.sampled_from([*sampling_networks.SAMPLED, *sampling_networks.FIXED]), min_size=1, max_size=3)


@settings(max_examples=15, deadline=None)
@given(names=blocks, n=st.integers(1, 3), seed=st.integers(0, 100))
def test_all_samplings_of_a_random_chain_of_blocks_are_found(names, n, seed):
    model = nn.Sequential(*(sampling_networks.build(name, seed) for name in names))
    x = networks.images(n, seed)
    found = [(site.module.split(".")[0], site.kind.value) for site in find_attention(model, x)]
    known = sampling_networks.SAMPLED
    assert found == [(str(i), kind) for i, name in enumerate(names) for kind in known.get(name, (None, []))[1]]
    with torch.no_grad(), capture(model) as captured:
        model(x)
    assert all(record.verify(1e-5) <= 1e-5 for record in captured.records)


@pytest.mark.parametrize(("name", "count"), [("stn", 1), ("flow-warp", 1), ("dcn-v2", 0), ("dat", 0)])
def test_only_a_sampling_of_the_whole_image_has_a_note(name, count):
    _, x, records = captured_of(name)
    notes = list(notes_of_views(records, tuple(x.shape[2:])))
    assert [note.partition(".")[0] for note in notes] == [f"{records[0].name} resamples the image"] * count
