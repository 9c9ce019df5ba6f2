"""Each kind of attention: from a record to components, with numbers worked by hand."""

from collections.abc import Sequence
from dataclasses import replace

import networks
import numpy as np
import pytest
import sampling_networks
import torch
import weighted_networks

from attnviz.core.explanation_results import Prediction
from attnviz.core.records import Kind, Record, Site
from attnviz.core.token_layout import Layout, Tokens
from attnviz.explanation.result import Explanation
from attnviz.recording import capture
from attnviz.report import describe
from attnviz.report.components import Bars, Outline, Pictures, Points, Profile, Queries, Strip, Views
from attnviz.report.explanation import html, json_file
from attnviz.report.kinds import RenderContext, render_kind
from attnviz.report.kinds.dense import groups
from attnviz.report.kinds.pairwise import PAGE_VALUES
from attnviz.tracing import Gate, find_attention
from attnviz.tracing.detectors.pairwise import MatrixProduct
from attnviz.tracing.detectors.sampling import DeformableSampling, GridSampling, MultiScaleSampling
from attnviz.tracing.detectors.weighted_sum import WeightedSum

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def record(kind, g, x, use=None, layout=None, module="m"):
    """Return a record with a placeholder ``y``."""
    site = Site(module, 0, kind, "mul", 0, use or Gate(kind, 1, 1), layouts=() if layout is None else (layout,))
    return Record(site, 0, torch.as_tensor(g, dtype=torch.float32), x, torch.zeros(1), images=1)


def rendered(one: Record, others: Sequence[Record] = (), size=(64, 64)):
    return render_kind(one, RenderContext((*others, one), PICTURE, size))


class TestGates:
    def test_channels_show_the_most_and_the_least_open_feature_maps(self):
        x = torch.arange(4.0)[None, :, None, None].expand(1, 4, 2, 2) + torch.tensor([[0.0, 0.1], [0.2, 0.3]])
        profile, most, least = rendered(record(Kind.CHANNEL, [[0.1, 0.9, 0.5, 0.3]], x))
        assert isinstance(profile, Profile)
        assert profile.values == pytest.approx(np.float32([[0.1, 0.9, 0.5, 0.3]]))
        assert (most.title, most.names) == ("Most open", ("channel 1, g = 0.9", "channel 2, g = 0.5"))
        assert (least.title, least.names) == ("Least open", ("channel 0, g = 0.1", "channel 3, g = 0.3"))
        assert np.array_equal(most.values, x[0, [1, 2]].numpy())
        assert not most.over

    def test_channels_can_be_on_another_axis(self):
        x = torch.rand(1, 3, 2, 4)
        _, most, _ = rendered(record(Kind.CHANNEL, [[0.1, 0.9, 0.5, 0.3]], x, Gate(Kind.CHANNEL, 3, 1)))
        assert np.array_equal(most.values[0], x[0, :, :, 1].numpy())

    def test_a_gate_on_pooled_features_has_only_a_profile(self):
        assert [type(one) for one in rendered(record(Kind.CHANNEL, [[0.1, 0.9]], torch.rand(1, 2)))] == [Profile]

    def test_a_mask_dims_the_image_where_it_is_closed(self):
        mask, dimmed, profile = rendered(record(Kind.SPATIAL, [[[0.0, 1.0], [0.0, 1.0]]], torch.rand(1, 3, 2, 2)))
        assert mask.values.tolist() == [[[0.0, 1.0], [0.0, 1.0]]]
        assert mask.over
        left, right = dimmed.pixels[0][:, :60].astype(float), dimmed.pixels[0][:, -60:].astype(float)
        assert left.mean() < 0.15 * right.mean()
        assert "darkest at g = 0, unchanged at g = 1" in dimmed.caption
        assert profile.unit == "positions"

    def test_a_constant_mask_dims_nothing(self):
        components = rendered(record(Kind.SPATIAL, torch.full((1, 2, 2), 0.5), torch.rand(1, 3, 2, 2)))
        assert not any(isinstance(one, Views) for one in components)

    def test_channels_of_a_dense_gate_are_grouped_by_pattern_and_not_by_size(self):
        left = np.float32([[1, 0], [1, 0]])
        g = np.stack([left, 3 * left, left.T, 5 + 2 * left, np.full((2, 2), 7, np.float32)])
        (one,) = rendered(record(Kind.DENSE, g[None], torch.rand(1, 5, 2, 2)))
        assert one.names == ("3 channels", "1 channel", "1 channel")
        assert one.values[0] == pytest.approx(np.mean([left, 3 * left, 5 + 2 * left], 0))
        assert one.values[1].tolist() == left.T.tolist()
        assert one.values[2].tolist() == [[7, 7], [7, 7]]

    def test_groups_are_deterministic_and_reach_the_given_number(self):
        maps = np.random.default_rng(1).normal(size=(40, 49))
        first = groups(maps, 6)
        assert np.array_equal(first, groups(maps, 6))
        assert sorted(set(first.tolist())) == [0, 1, 2, 3, 4, 5]


class TestSums:
    def test_branches_have_means_and_channels(self):
        use = WeightedSum(Kind.BRANCH, "mul", 0, ((0,), (1,), (2,)), 3, (None, None, None))
        bars, profile = rendered(record(Kind.BRANCH, [[[0.25, 0.75], [0.75, 0.25]]], torch.rand(1, 2, 2), use))
        assert isinstance(bars, Bars)
        assert bars.values.tolist() == [0.5, 0.5]
        assert profile.values.tolist() == [[0.25, 0.75], [0.75, 0.25]]
        assert profile.names == bars.names == ("branch 1", "branch 2")

    def test_kernels_have_one_weight_each(self):
        (bars,) = rendered(record(Kind.BRANCH, [[[0.25], [0.75]]], torch.rand(1, 2, 2)))
        assert bars.values.tolist() == [0.25, 0.75]

    def test_frames_have_their_weights_and_the_uniform_weight(self):
        (strip,) = rendered(record(Kind.TEMPORAL, [[0.1, 0.2, 0.7]], torch.rand(1, 3, 4)))
        assert isinstance(strip, Strip)
        assert strip.values.tolist() == pytest.approx([0.1, 0.2, 0.7])
        assert strip.uniform == pytest.approx(1 / 3)

    def test_attention_between_frames_is_averaged_over_query_frames(self):
        g = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])
        strip, matrix = rendered(record(Kind.TEMPORAL, g, torch.rand(1, 2, 4)))
        assert strip.values.tolist() == [0.75, 0.25]
        assert matrix.values.tolist() == [[[1.0, 0.0], [0.5, 0.5]]]

    def test_pooling_is_drawn_over_the_image_if_the_positions_are_known(self):
        keys = Tokens((1, 2, 2), torch.tensor([[-1, 0, 1, 2, 3]]))
        layout = Layout(1, 1, None, keys)
        g = torch.tensor([[[0.5, 0.2, 0.1, 0.1, 0.1]]])
        maps, unplaced = rendered(record(Kind.POOLING, g, torch.rand(1, 5, 2), MatrixProduct(0), layout))
        assert maps.values[0] == pytest.approx(np.float32([[0.2, 0.1], [0.1, 0.1]]))
        assert unplaced.values.tolist() == [0.5]
        (unknown,) = rendered(record(Kind.POOLING, g, torch.rand(1, 5, 2)))
        assert isinstance(unknown, Profile)


class TestPairwise:
    def queries(self, g, queries, keys=None, windows=1, others=0):
        heads = g.shape[1]
        layout = Layout(windows, heads, queries, keys or queries)
        one = record(Kind.PAIRWISE, g, torch.rand(1, 1, 1), MatrixProduct(0), layout)
        return rendered(one, [replace(one, call=n + 1) for n in range(others)])

    def test_the_class_token_comes_first_and_maps_follow_the_positions_of_the_keys(self):
        tokens = Tokens((1, 2, 3), torch.tensor([[-1, 0, 1, 2, 3, 4, 5]]))
        g = torch.zeros(1, 2, 7, 7)
        g[0, 0, 0] = torch.tensor([0.4, 0.1, 0.0, 0.0, 0.0, 0.0, 0.5])
        g[0, 1, 0, 3] = 1.0
        g[0, :, 5, 2] = 1.0
        one, mean = self.queries(g, tokens)
        assert isinstance(one, Queries)
        assert one.names[:2] == ("class token", "row 1, column 1")
        assert len(one.names) == 7
        assert one.first == 0
        assert one.sheets == ("mean over heads", "head 1", "head 2")
        assert one.maps[0, 0] == pytest.approx(np.float16([[0.05, 0, 0.5], [0, 0, 0.25]]))
        assert one.maps[1, 0] == pytest.approx(np.float16([[0.1, 0, 0], [0, 0, 0.5]]))
        assert one.nowhere[:, 0].tolist() == pytest.approx([0.2, 0.4, 0.0])
        assert one.names[5] == "row 2, column 2"
        assert one.maps[0, 5].tolist() == [[0, 1, 0], [0, 0, 0]]
        assert one.spots[5].tolist() == pytest.approx([0.5, 0.75])
        assert np.isnan(one.spots[0]).all()
        assert mean.values[0] == pytest.approx(one.maps[0].astype(float).mean(0), abs=1e-3)

    def test_windows_and_reduced_keys_are_placed(self):
        queries = Tokens((1, 1, 4), torch.tensor([[1, 2], [3, 0]]))  # shifted windows of two
        g = torch.tensor([[[[0.9, 0.1], [0.2, 0.8]]], [[[0.7, 0.3], [0.6, 0.4]]]])
        one, _ = self.queries(g, queries, windows=2)
        assert one.names == tuple(f"row 1, column {n}" for n in (1, 2, 3, 4))
        wanted = [[0.4, 0, 0, 0.6], [0, 0.9, 0.1, 0], [0, 0.2, 0.8, 0], [0.3, 0, 0, 0.7]]
        assert one.maps[0, :, 0] == pytest.approx(np.float16(wanted))
        assert "only to its own window, one of 2" in one.caption
        keys = Tokens((1, 1, 2), torch.tensor([[0, 1]]))
        one, _ = self.queries(torch.rand(1, 1, 4, 2), Tokens((1, 1, 4), torch.arange(4)[None]), keys)
        assert one.maps.shape == (1, 4, 1, 2)

    def test_large_maps_are_thinned_and_the_caption_contains_it(self):
        side = 40
        tokens = Tokens((1, side, side), torch.arange(side * side)[None])
        g = torch.rand(1, 1, side * side, side * side).softmax(-1)
        one, _ = self.queries(g, tokens)
        assert one.maps.shape[2:] == (20, 20)
        assert 100 < len(one.names) <= 256
        assert one.maps.sum((2, 3)) == pytest.approx(1, abs=2e-2)  # coarser cells are sums
        assert f"{side * side - len(one.names)} queries are left out" in one.caption
        assert "summed to 20 × 20" in one.caption

    def test_many_sites_share_the_budget_of_the_page(self):
        tokens = Tokens((1, 14, 14), torch.arange(-1, 196)[None])
        g = torch.rand(1, 12, 197, 197)
        for others, queries, sheets in ((0, 197, 13), (11, 197, 13), (47, 50, 13), (99, 197, 1)):
            one, _ = self.queries(g, tokens, others=others)
            assert (len(one.names), len(one.sheets)) == (queries, sheets)
            assert (others + 1) * one.maps.size < PAGE_VALUES
        assert "Only the mean of the 12 heads is stored" in one.caption

    def test_learned_queries_are_numbered(self):
        unplaced = Tokens((1, 2, 2), torch.full((1, 6), -1))
        keys = Tokens((1, 2, 2), torch.arange(4)[None])
        one, _ = self.queries(torch.rand(1, 1, 6, 4), unplaced, keys)
        assert one.names == tuple(f"query {n}" for n in range(1, 7))

    def test_a_map_with_unknown_positions_is_a_matrix(self):
        (one,) = rendered(record(Kind.PAIRWISE, torch.rand(1, 2, 3, 5), torch.rand(1, 5, 2), MatrixProduct(0)))
        assert isinstance(one, Pictures)
        assert one.values.shape == (1, 3, 5)
        assert "positions are unknown" in one.caption


def grid_of(theta, side):
    """Points of an affine grid in pixels of a map of the same size, ``(1, 1, side, side, 2)``."""
    grid = torch.nn.functional.affine_grid(torch.tensor([theta]), (1, 1, side, side), align_corners=False)
    return (((grid + 1) * side - 1) / 2)[:, None]


GRID = GridSampling("bilinear", "zeros", align_corners=False)


class TestSampling:
    def test_the_identity_samples_the_whole_image(self):
        points = grid_of([[1.0, 0, 0], [0, 1.0, 0]], 8)
        outline, view, density = rendered(record(Kind.SAMPLING, points, torch.rand(1, 3, 8, 8), GRID))
        assert isinstance(outline, Outline)
        assert outline.edge.min(0).tolist() == pytest.approx([0, 0], abs=1e-6)
        assert outline.edge.max(0).tolist() == pytest.approx([1, 1], abs=1e-6)
        assert "nearly the whole input" in outline.caption
        assert density.values[0] == pytest.approx(1, abs=1e-5)
        reduced = np.asarray(view.pixels[0][3::7, 3::7], float)
        assert np.abs(reduced - PICTURE).mean() < 3

    def test_the_corners_of_a_window_follow_from_theta(self):
        points = grid_of([[0.5, 0, 0.25], [0, 0.5, -0.25]], 8)
        outline, view, density = rendered(record(Kind.SAMPLING, points, torch.rand(1, 3, 8, 8), GRID))
        # centre (0.5 + 0.25 / 2, 0.5 - 0.25 / 2), half of the side: x from .375 to .875, y from .125 to .625
        assert outline.edge[0].tolist() == pytest.approx([0.375, 0.125], abs=1e-6)
        assert outline.edge.max(0).tolist() == pytest.approx([0.875, 0.625], abs=1e-6)
        middle = view.pixels[0][200:248, 200:248].astype(float).mean((0, 1))
        wanted = PICTURE[22:26, 38:42].astype(float).mean((0, 1))
        assert np.abs(middle - wanted).max() < 40
        assert density.values.sum() == pytest.approx(64, rel=1e-4)
        assert density.values[0][6:].max() == 0

    def test_the_caption_contains_the_weight_outside(self):
        points = grid_of([[1.0, 0, 1.0], [0, 1.0, 0]], 8)
        density = rendered(record(Kind.SAMPLING, points, torch.rand(1, 3, 8, 8), GRID))[-1]
        assert "50% of the weight falls outside" in density.caption

    @staticmethod
    def deformable(shift, side=8, mask=None, module="m"):
        """A 3×3 kernel whose points are all moved by ``shift`` pixels along x."""
        parts = ("input", "weight", *(("mask",) if mask is not None else ()))
        use = DeformableSampling("attnviz.deform_conv2d", (3, 3), (1, 1), (1, 1), (1, 1), parts)
        axis = torch.arange(side, dtype=torch.float32)
        taps = torch.tensor([(dx + shift, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
        centre = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
        g = (centre + taps[:, None, None])[None]
        x = (torch.rand(1, 2, side, side), torch.rand(2, 2, 3, 3), *((mask,) if mask is not None else ()))
        return record(Kind.SAMPLING, g, x, use, module=module)

    def test_a_position_samples_its_nine_points(self):
        points, density = rendered(self.deformable(1.0))
        assert isinstance(points, Points)
        (found, weights) = points.chain((4.5 / 8, 4.5 / 8))[0]
        assert sorted((8 * found - 0.5).round(3).tolist()) == [[x, y] for x in (4, 5, 6) for y in (3, 4, 5)]
        assert weights.tolist() == [1.0] * 9
        inner = density.values[0][2:-2, 2:-2]
        assert inner == pytest.approx(9)

    def test_points_are_traced_through_three_layers(self):
        chain = [self.deformable(0.0, module=f"layer{n}") for n in range(5)]
        points = rendered(chain[-1], chain[:-1])[0]
        assert [level.name for level in points.levels] == ["layer4", "layer3", "layer2"]
        sizes = [len(spots) for spots, _ in points.chain((0.5, 0.5))]
        assert sizes == [9, 81, 729]
        extent = 8 * (points.chain((4.5 / 8, 4.5 / 8))[1][0]) - 0.5
        assert (extent.min(), extent.max()) == pytest.approx((2, 6))  # two layers of 3×3 cover 5×5
        assert len(rendered(chain[0])[0].levels) == 1

    def test_points_and_density_are_weighted_by_the_mask(self):
        mask = torch.zeros(1, 9, 8, 8)
        mask[:, 4] = 0.5
        points, density = rendered(self.deformable(0.0, mask=mask))
        weights = points.chain((0.5, 0.5))[0][1]
        assert weights.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]  # relative to the largest
        assert density.values[0] == pytest.approx(0.5)

    def test_levels_of_multi_scale_attention_are_added(self):
        heads, levels, each, queries = 2, 2, 3, 5
        sizes = torch.tensor([[4, 4], [2, 2]])
        weights = torch.rand(1, queries, heads, levels, each)
        g = torch.full((1, heads * levels * each, queries, 1, 2), 0.5)
        x = (torch.rand(1, 20, heads, 4), sizes, torch.tensor([0, 16]), weights)
        (density,) = rendered(record(Kind.SAMPLING, g, x, MultiScaleSampling(heads, levels)))
        assert density.values.sum() == pytest.approx(float(weights.sum()), rel=1e-5)


ALL = {
    **{f"gated {name}": lambda name=name: networks.build(name) for name in networks.GATED},
    **{f"sampled {name}": lambda name=name: sampling_networks.build(name) for name in sampling_networks.SAMPLED},
    **{f"weighted {name}": lambda name=name: weighted_networks.build(name) for name in weighted_networks.WEIGHTED},
}


@pytest.mark.parametrize("name", ALL)
def test_every_network_has_components_that_are_restored_from_the_file(name, tmp_path):
    network, x = ALL[name](), networks.images(1)
    with torch.no_grad(), capture(network, find_attention(network, x)) as captured:
        network(x)
    predictions = (Prediction(0, "a", 1.0),)
    explanation = Explanation(
        "x.png", PICTURE, "m", predictions, predictions[0], tuple(captured.records), (), (), {}, ()
    )
    document = describe(explanation)
    assert document.sites
    for site in document.sites:
        assert site.components, site.kind
        assert all(one.title and one.caption for one in site.components)
    json_file.write(document, tmp_path / "e.json")
    text = html.render(document)
    assert html.render(json_file.load(tmp_path / "e.json")) == text
    assert len(text) < 1_000_000
