"""What each target reads from an output, by hand."""

import math
from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from attnviz.core.model_outputs import parts_of, rows_of, select
from attnviz.errors import ModelError, TargetError
from attnviz.targets import (
    ClassInRegion,
    ClassLogit,
    ClassProbability,
    Contrast,
    DetectedObject,
    EmbeddingNorm,
    FunctionTarget,
    Label,
    Query,
    Similarity,
    SingleLogit,
    Token,
    Value,
    ValueInRegion,
)
from attnviz.targets.objects import objects_of, overlap
from attnviz.targets.regions import box_mask, planes_of

LOGITS = torch.tensor([[0.0, math.log(3)], [1.0, 1.0]])


@dataclass
class Fields:
    """An output with fields."""

    logits: Tensor
    hidden: Tensor


Pair = namedtuple("Pair", "scores hidden")


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS,),
        {"logits": LOGITS, "hidden": torch.zeros(2, 7)},
        Fields(LOGITS, torch.zeros(2, 7)),
        Pair(LOGITS, torch.zeros(2, 3, 4)),
        SimpleNamespace(logits=LOGITS, other=None),
        LOGITS[:, :, None, None],
    ],
)
def test_scores_are_found_in_outputs_of_any_form(output) -> None:
    assert torch.equal(ClassLogit(1)(output), LOGITS[:, 1])
    torch.testing.assert_close(ClassLogit(1).measured(output), torch.tensor([0.75, 0.5]))


def test_several_candidates_are_an_error_that_names_them() -> None:
    with pytest.raises(TargetError, match=r"several parts .* \(a, b\); choose one with output='a'"):
        ClassLogit(0)({"a": LOGITS, "b": LOGITS})


def test_a_part_is_selected_by_path_or_function() -> None:
    output = {"heads": (LOGITS, LOGITS + 1)}
    assert select(output, "heads.1") is output["heads"][1]
    assert select(output, lambda o: o["heads"][0]) is LOGITS
    assert select(LOGITS, None) is LOGITS
    with pytest.raises(ModelError, match=r"no part 'tails' of 'tails': it is a dict with heads"):
        select(output, "tails")
    assert list(parts_of(Pair(1, 2))) == ["scores", "hidden"]


def test_rows_of_an_output_are_those_of_its_images() -> None:
    output = {"logits": LOGITS, "maps": (LOGITS, [{"boxes": 1}, {"boxes": 2}]), "name": "x"}
    part = rows_of(output, slice(1, 2))
    assert torch.equal(part["logits"], LOGITS[1:])
    assert part["maps"][1] == [{"boxes": 2}]


def test_numbers_of_classes_and_values() -> None:
    assert ClassProbability(1)(LOGITS).tolist() == pytest.approx([0.75, 0.5])
    assert Label(1).measured(LOGITS).tolist() == pytest.approx([0.75, 1 / (1 + math.exp(-1))])
    assert Value(1).measured(LOGITS).tolist() == LOGITS[:, 1].tolist()
    single = LOGITS[:, 1:]
    assert SingleLogit()(single).tolist() == single[:, 0].tolist()
    assert SingleLogit(positive=False)(single[:, 0]).tolist() == (-single[:, 0]).tolist()
    assert SingleLogit(positive=False).measured(single).tolist() == pytest.approx([0.25, 1 - 1 / (1 + math.exp(-1))])
    with pytest.raises(TargetError, match="wanted a single logit, the model has 2 outputs"):
        SingleLogit()(LOGITS)
    with pytest.raises(TargetError, match="2 outputs, 0 to 1; got 5"):
        ClassLogit(5)(LOGITS)


def test_a_contrast_is_the_difference_and_is_measured_by_the_probability_among_the_two() -> None:
    why = Contrast(ClassLogit(1, "cat"), ClassLogit(0, "dog"))
    assert why.name == "cat, not dog"
    assert why(LOGITS).tolist() == pytest.approx([math.log(3), 0])
    assert why.measured(LOGITS).tolist() == pytest.approx([0.75, 0.5])
    assert Contrast(Value(1), Value(0)).measured(LOGITS).tolist() == pytest.approx([math.log(3), 0])


def test_similarity_is_the_cosine_and_takes_embeddings_of_any_form() -> None:
    target = Similarity(torch.tensor([1.0, 0.0]), "a cat")
    tokens = torch.tensor([[[3.0, 4.0], [9.0, 9.0]]])
    assert target(tokens[:, 0]).tolist() == pytest.approx([0.6])
    assert target({"last_hidden_state": tokens}).tolist() == pytest.approx([0.6])
    assert target({"pooler_output": tokens[:, 0], "last_hidden_state": tokens}).tolist() == pytest.approx([0.6])
    assert EmbeddingNorm()(tokens[:, 0].reshape(1, 2, 1, 1)).tolist() == pytest.approx([5.0])
    assert target.name == "similarity to a cat"
    with pytest.raises(TargetError, match=r"embedding has 3 values, got \(2,\)"):
        target(torch.zeros(1, 3))


def test_a_class_in_a_region_is_the_sum_of_its_logits_there() -> None:
    planes = torch.arange(8.0).reshape(1, 2, 2, 2)
    region = torch.tensor([[True, False], [False, True]])
    assert ClassInRegion(1, region)(planes).tolist() == [4 + 7]
    assert ClassInRegion(1, region).measured(planes).item() == pytest.approx(1 / (1 + math.exp(-4)))
    large = region.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert ClassInRegion(1, large)({"out": planes, "aux": planes}).tolist() == [4 + 7]
    assert ValueInRegion(region)(planes[:, 0]).tolist() == [(0 + 3) / 2]
    with pytest.raises(TargetError, match="2 classes, 0 to 1; got 2"):
        ClassInRegion(2, region)(planes)


def test_masks_of_queries_become_planes_of_classes() -> None:
    output = {
        "class_queries_logits": torch.tensor([[[0.0, 0.0, -40.0]]]),
        "masks_queries_logits": torch.full((1, 1, 2, 2), 40.0),
    }
    assert torch.allclose(planes_of(output), torch.full((1, 2, 2, 2), 0.5))


@pytest.mark.parametrize("box", [(5, 0, 6, 1), (2, 0, 2, 1), (0, 3, 2, 5), (math.nan, 0, 1, 1), (0, 0, 1)])
def test_a_box_without_a_pixel_is_refused(box) -> None:
    with pytest.raises(TargetError, match="box"):
        box_mask(box, (3, 5))


BOXES = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0]])


def test_an_object_has_its_score_and_overlap_and_is_nothing_elsewhere() -> None:
    output = [{"boxes": BOXES, "scores": torch.tensor([0.5, 0.25]), "labels": torch.tensor([1, 2])}]
    target = DetectedObject((0.0, 0.0, 4.0, 2.5), 1, (8, 8), "cat")
    assert target(output).item() == pytest.approx(0.5 + 10 / 16)
    assert target.measured(output).item() == 0.5
    assert DetectedObject((0.0, 0.0, 4.0, 2.5), 2, (8, 8))(output).item() == 0  # another class
    assert DetectedObject((0.0, 6.0, 4.0, 8.0), 1, (8, 8))(output).item() == 0  # no overlap
    nothing = [{"boxes": BOXES[:0], "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}]
    assert target(nothing).item() == 0
    assert target.name == "cat at (0, 0, 4, 2)"


def test_queries_give_objects_with_corners_in_pixels() -> None:
    output = {"logits": torch.tensor([[[2.0, 0.0, 0.0]]]), "pred_boxes": torch.tensor([[[0.5, 0.5, 0.5, 1.0]]])}
    found = objects_of(output, (10, 20), classes=2)[0]
    assert found.boxes.tolist() == [[5, 0, 15, 10]]
    assert found.scores.item() == pytest.approx(float(torch.tensor([2.0, 0.0, 0.0]).softmax(0)[0]))
    sigmoid = objects_of(output, (10, 20), classes=3)[0]
    assert sigmoid.scores.item() == pytest.approx(float(torch.tensor(2.0).sigmoid()))
    assert Query(0, 0, classes=2)(output).item() == 2
    assert DetectedObject((5.0, 0.0, 15.0, 10.0), 0, (10, 20), classes=2)(output).item() > 1
    with pytest.raises(TargetError, match="1 queries"):
        Query(3, 0)(output)


def test_overlap_is_intersection_over_union() -> None:
    assert overlap(BOXES[0], BOXES).tolist() == [1, 0]
    assert overlap(torch.tensor([2.0, 0.0, 6.0, 4.0]), BOXES).tolist() == pytest.approx([8 / 24, 8 / 24])


def test_a_token_is_read_at_its_position() -> None:
    logits = torch.arange(12.0).reshape(1, 3, 4)
    assert Token(-1, 2)({"logits": logits}).item() == 10
    assert Token(0, 3).measured(logits).item() == pytest.approx(float(logits[0, 0].softmax(0)[3]))
    with pytest.raises(TargetError, match="3 positions and 4 tokens"):
        Token(3, 0)(logits)


def test_a_function_has_its_own_name() -> None:
    def redness(output: Tensor) -> Tensor:
        return output[:, 0]

    assert FunctionTarget(redness).name == "redness"
    assert FunctionTarget(lambda output: output[:, 0]).name == "a function"
