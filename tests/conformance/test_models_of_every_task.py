"""Models of every task are explained without a layer, a reshape or code from the user."""

import pytest
from conformance.task_models import ROWS, Row
from conformance.tasks import explained

pytestmark = pytest.mark.filterwarnings("ignore")

HEAVY = ("RetinaNet", "FCOS", "Mask R-CNN", "FCN", "SE-ResNet", "UNETR", "DeepLabV3", "in_chans=1", "Faster R-CNN")
"""Models that take more than a second; `make conformance` runs them."""


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.name, marks=[pytest.mark.conformance] * any(name in row.name for name in HEAVY))
        for row in ROWS
    ],
)
def test_a_model_is_explained_and_left_as_it_was(row: Row) -> None:
    try:
        found = explained(row)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed")
    assert not found.faults
