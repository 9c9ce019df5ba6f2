"""What a model of each task predicts, and which target a request means."""

import pytest
import torch
from torch import Tensor

from attnviz.errors import ModelError, TargetError, UnknownNameError
from attnviz.targets import TASKS, Answer, ClassLogit, Contrast, DetectedObject, Query, Request, SingleLogit, Value
from attnviz.targets.task_of_output import task_of_output

NAMES = ("dog", "cat", "car")


def answer(output, labels=NAMES, size=(4, 4)) -> Answer:
    return Answer((output,), labels, size)


def described(task: str, output, labels=NAMES) -> list[str]:
    return [str(one) for one in TASKS[task].predictions(answer(output, labels))]


SCORES = torch.tensor([[1.0, 3.0, 2.0]])


@pytest.mark.parametrize(
    ("task", "output", "labels", "wanted"),
    [
        ("classification", SCORES, NAMES, ["cat, p = 0.665", "car, p = 0.245", "dog, p = 0.090"]),
        ("multi-label", SCORES, NAMES, ["cat, p = 0.953", "car, p = 0.881", "dog, p = 0.731"]),
        ("binary", torch.tensor([[1.0]]), ("cat",), ["cat, p = 0.731", "not cat, p = 0.269"]),
        ("binary", torch.tensor([-1.0]), (), ["negative, p = 0.731", "positive, p = 0.269"]),
        ("regression", torch.tensor([[1.5, -2.0]]), ("width",), ["width, value 1.5", "output 1, value -2"]),
        ("embedding", torch.tensor([[3.0, 4.0]]), (), ["norm of the embedding, norm 5"]),
        ("zero-shot", {"logits_per_image": SCORES}, NAMES, ["cat, p = 0.665", "car, p = 0.245", "dog, p = 0.090"]),
        ("zero-shot", {"logits_per_image": SCORES[:, :1]}, ("a cat",), ["a cat, scaled similarity 1"]),
        ("dense-regression", torch.full((1, 2, 2), 3.0), (), ["mean, value 3"]),
        ("sequence", {"logits": SCORES[None]}, NAMES, ["cat, p = 0.665", "car, p = 0.245", "dog, p = 0.090"]),
    ],
)
def test_predictions_are_in_the_unit_of_the_task(task, output, labels, wanted) -> None:
    assert described(task, output, labels) == wanted


def planes() -> Tensor:
    """Class 1 in the left half, class 2 in a quarter, class 0 elsewhere."""
    classes = torch.zeros(4, 4, dtype=torch.long)
    classes[:, :2] = 1
    classes[:2, 2:] = 2
    return torch.nn.functional.one_hot(classes, 3).permute(2, 0, 1)[None].float()


def test_a_segmentation_has_shares_and_its_predicted_area_is_the_default_region() -> None:
    task = TASKS["segmentation"]
    assert described("segmentation", {"out": planes()})[0] == "cat, share of the image 0.5"
    target = task.target(Request(), answer({"out": planes()}))
    assert target.name == "cat in its predicted area"
    assert int(target.region.sum()) == 8
    box = task.target(Request(box=(2, 0, 4, 2)), answer({"out": planes()}))
    assert box.name == "car in the box 2,0,4,2"
    with pytest.raises(TargetError, match="dog is predicted nowhere"):
        task.target(Request("dog"), answer({"out": planes() * torch.tensor([-1.0, 1, 1]).view(1, 3, 1, 1)}))


OBJECTS = [
    {
        "boxes": torch.tensor([[0.0, 0, 2, 2], [2.0, 2, 4, 4], [0.0, 2, 2, 4]]),
        "scores": torch.tensor([0.9, 0.5, 0.4]),
        "labels": torch.tensor([1, 2, 2]),
    }
]


def test_a_detection_explains_the_best_object_of_a_class_or_at_a_box() -> None:
    task = TASKS["detection"]
    assert described("detection", OBJECTS)[0] == "cat, score 0.9"
    assert task.target(Request(), answer(OBJECTS)) == DetectedObject((0, 0, 2, 2), 1, (4, 4), "cat", 0.5, 3)
    assert task.target(Request("car"), answer(OBJECTS)).box == (2, 2, 4, 4)
    assert task.target(Request(box=(0, 2, 2, 4)), answer(OBJECTS)).label == "car"
    with pytest.raises(TargetError, match="no dog was found"):
        task.target(Request("dog"), answer(OBJECTS))
    with pytest.raises(TargetError, match="the model has no queries"):
        task.target(Request(query=0), answer(OBJECTS))
    queries = {"logits": torch.tensor([[[0.0, 2.0, 0.0]]]), "pred_boxes": torch.full((1, 1, 4), 0.5)}
    assert task.target(Request(query=0), answer(queries)) == Query(0, 1, "cat", 3)


def test_requests_without_a_meaning_are_refused_in_one_line() -> None:
    refused = [
        ("classification", SCORES, Request(box=(0, 0, 1, 1)), "--box has no meaning for classification"),
        ("embedding", SCORES, Request("cat"), "target 'cat': its output is an embedding"),
        ("classification", SCORES, Request("cat", contrast="cat"), "the score is constant"),
        ("classification", SCORES, Request(7), "class 7: the model has 3 classes, 0 to 2"),
        ("classification", SCORES, Request(1.5), "wanted the index or the name of a class, got 1.5"),
        ("segmentation", planes(), Request(mask=torch.zeros(4, 4)), "is not empty"),
    ]
    for task, output, request, message in refused:
        with pytest.raises(TargetError, match=message) as error:
            TASKS[task].target(request, answer(output))
        assert "\n" not in str(error.value)
    with pytest.raises(UnknownNameError, match="unknown class 'cow'"):
        TASKS["classification"].target(Request("cow"), answer(SCORES))


def test_a_request_is_a_target_of_the_task() -> None:
    assert TASKS["classification"].target(Request(), answer(SCORES)) == ClassLogit(1, "cat")
    wanted = Contrast(ClassLogit(1, "cat"), ClassLogit(2, "car"))
    assert TASKS["classification"].target(Request(contrast="car"), answer(SCORES)) == wanted
    assert TASKS["binary"].target(Request(0), answer(torch.tensor([[1.0]]), ("cat",))) == SingleLogit(False, "not cat")
    assert TASKS["regression"].target(Request("1"), answer(torch.zeros(1, 2), ())) == Value(1, "output 1")


@pytest.mark.parametrize(
    ("output", "task"),
    [
        (torch.zeros(2, 5), "classification"),
        (torch.zeros(2, 5, 1, 1), "classification"),
        (torch.zeros(2, 1), "regression"),
        (torch.zeros(2), "regression"),
        (torch.zeros(2, 3, 8, 8), "segmentation"),
        (torch.zeros(2, 8, 8), "dense-regression"),
        ({"logits": torch.zeros(2, 7, 9)}, "sequence"),
        ({"logits": torch.zeros(2, 7, 9), "pred_boxes": torch.zeros(2, 7, 4)}, "detection"),
        (OBJECTS, "detection"),
        ({"predicted_depth": torch.zeros(2, 8, 8)}, "dense-regression"),
        ({"logits_per_image": torch.zeros(2, 3), "image_embeds": torch.zeros(2, 9)}, "zero-shot"),
        ({"last_hidden_state": torch.zeros(2, 4, 8), "pooler_output": torch.zeros(2, 8)}, "embedding"),
    ],
)
def test_the_task_of_an_output_is_that_of_its_form(output, task) -> None:
    assert task_of_output(output).name == task


def test_an_output_without_a_tensor_has_no_task() -> None:
    with pytest.raises(ModelError, match="no task fits the output, a str"):
        task_of_output("a text")
