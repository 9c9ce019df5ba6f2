"""Sampling followed through layers: by hand, against nested loops, and refusals."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from attnviz.core.records import Kind, Record, Site
from attnviz.errors import CaptureError
from attnviz.heatmaps import combined_heatmaps, receptive_field


def reads(points: Tensor, source: tuple[int, int], mask: Tensor | None = None) -> Record:
    """A record that samples a map of one channel, of the size ``source``, at ``points`` ``(N, S, H, W, 2)``."""
    x = torch.zeros(len(points), 1, *source)
    use = SimpleNamespace(parts=("input",) if mask is None else ("input", "mask"))
    site = Site("layer", 0, Kind.SAMPLING, "deform_conv2d", 0, use)
    return Record(site, 0, points, (x,) if mask is None else (x, mask), x)


def lattice(height: int, width: int) -> Tensor:
    """Every place as a point, ``(1, 1, H, W, 2)``, x then y."""
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([across, down], -1)[None, None].float()


def test_two_layers_that_each_read_one_column_to_the_right_read_two_to_the_right():
    right = lattice(3, 5) + torch.tensor([1.0, 0.0])
    found = receptive_field([reads(right, (3, 5)), reads(right, (3, 5))], (3, 5))
    # The last column's output is lost twice: it reads outside, and what its neighbour reads comes from outside.
    assert found.values[0].tolist() == [[0.0, 0.0, 1.0, 1.0, 1.0]] * 3
    assert (found.method, found.kind) == ("receptive-field", "attention")


def test_what_reads_every_place_alike_has_a_flat_field():
    still = lattice(4, 6)
    assert torch.equal(receptive_field([reads(still, (4, 6))] * 3, (4, 6)).values, torch.ones(1, 4, 6))
    coarse = 2 * lattice(2, 3) + 0.5  # a stride of 2, between the places
    found = receptive_field([reads(still, (4, 6)), reads(coarse, (4, 6))], (4, 6)).values
    torch.testing.assert_close(found, torch.ones(1, 4, 6))


def test_it_is_the_formula_in_nested_loops():
    generator = torch.Generator().manual_seed(0)
    sizes = [(4, 5), (3, 4), (3, 4)]  # of the first input, and of each layer's output
    records, layers = [], []
    for (height, width), (rows, columns) in itertools.pairwise(sizes):
        points = torch.rand(1, 3, rows, columns, 2, generator=generator) * torch.tensor([width, height]) - 0.5
        mask = torch.rand(1, 3, rows, columns, generator=generator)
        records.append(reads(points, (height, width), mask))
        layers.append((points[0].double(), mask[0].double(), height, width))
    density = torch.ones(3, 4, dtype=torch.float64)
    for points, mask, height, width in reversed(layers):
        below = torch.zeros(height, width, dtype=torch.float64)
        for p, given in enumerate(density.flatten()):
            row, column = divmod(p, density.shape[1])
            for s in range(3):
                share = mask[s, row, column] / mask[:, row, column].sum()
                x, y = points[s, row, column]
                for i in range(height):
                    for j in range(width):
                        kernel = max(0.0, 1 - abs(i - float(y))) * max(0.0, 1 - abs(j - float(x)))
                        below[i, j] += given * share * kernel
        density = below * height * width / density.numel()
    torch.testing.assert_close(receptive_field(records, (4, 5)).values[0].double(), density, atol=1e-6, rtol=1e-5)


def test_what_samples_no_map_from_a_plane_is_refused_and_left_out():
    with pytest.raises(CaptureError, match="receptive field: wanted one record or more"):
        receptive_field([], (4, 4))
    one = reads(lattice(1, 1), (4, 4))
    with pytest.raises(CaptureError, match="sampled on a plane"):
        receptive_field([one, one], (4, 4))
    assert combined_heatmaps([one, one], (4, 4)) == []
    (found,) = combined_heatmaps([reads(lattice(4, 4), (4, 4))] * 2, (8, 8))
    assert found.source == "sampling of all layers together"
