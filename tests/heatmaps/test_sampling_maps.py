"""Projections of sampling, by hand."""

import pytest
import torch
from test_receptive_field import lattice, reads

from attnviz.errors import CaptureError
from attnviz.heatmaps import project


def test_all_points_at_one_position_weigh_as_much_as_their_modulation():
    points = torch.zeros(1, 1, 2, 2, 2)  # four outputs that all read the upper left corner
    mask = torch.tensor([[0.5, 1.0], [0.25, 0.25]])[None, None]
    record = reads(points, (2, 3), mask)
    record.x[0][:] = -3.0
    assert project(record).values[0].tolist() == [[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert project(record, method="point-density").values[0, 0, 0] == 4.0
    assert project(record, method="read-energy").values[0].tolist() == [[6.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert project(record, method="modulation").values[0].tolist() == mask[0, 0].tolist()


def test_without_modulation_there_is_no_map_of_it():
    with pytest.raises(CaptureError, match="no modulation"):
        project(reads(lattice(2, 2), (2, 2)), method="modulation")
