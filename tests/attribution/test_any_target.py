"""Attributions of any target: other tasks, other outputs, several inputs, volumes; and parity with other libraries."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz import targets as t
from attnviz.attribution import METHODS, attribute
from attnviz.attribution.methods.gradient import completeness_gap
from attnviz.attribution.targets import Logits, Objective, Subject
from attnviz.core.model_outputs import select
from attnviz.core.model_state import borrowed
from attnviz.errors import AttributionError, ModelError, TargetError
from attnviz.metrics.faithfulness import FAITHFULNESS
from attnviz.metrics.perturbation_curves import TargetProbe

QUICK: dict[str, dict[str, Any]] = {"rise": {"samples": 12}, "lime": {"samples": 12}, "kernel_shap": {"samples": 12}}


class Net(nn.Module):
    """Two convolutions and a head."""

    def __init__(self, outputs: int, channels: int = 3) -> None:
        super().__init__()
        self.first, self.first_relu = nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU()
        self.second, self.relu = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.head = nn.Linear(8, outputs)

    def features(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.first_relu(self.first(x))))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.features(x).mean((2, 3)))


def seeded(model: type[nn.Module], *arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return model(*arguments).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "xgradcam", "integrated_gradients", "input_x_gradient"])
def test_a_contrast_is_the_difference_of_the_maps_of_linear_methods(method: str, x: Tensor) -> None:
    model, options = seeded(Net, 4), {"relu": False} if "cam" in method else {}
    why = attribute(model, x, t.Contrast(t.ClassLogit(1), t.ClassLogit(2)), method, **options).values
    one, other = (attribute(model, x, index, method, **options).values for index in (1, 2))
    torch.testing.assert_close(why, one - other, atol=1e-6, rtol=1e-4)


def test_a_single_logit_has_both_signs_and_maps_differ_between_images(x: Tensor) -> None:
    model = seeded(Net, 1)
    up, down = (attribute(model, x, t.SingleLogit(sign), "gradcam", relu=False).values for sign in (True, False))
    assert torch.equal(up, -down)
    masks = attribute(model, x, 0, "rise", samples=20).values
    assert not torch.equal(masks[0], masks[1])
    values = FAITHFULNESS["insertion"](TargetProbe(model, x, t.SingleLogit()), up)
    assert len(set(values.tolist())) == 2
    assert bool(((values > 0) & (values < 1)).all())
    with pytest.raises(TargetError, match="has 1 classes, 0 to 0; got 1"):
        attribute(model, x, 1, "gradcam")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_takes_a_function_of_the_output(method: str, x: Tensor) -> None:
    model = seeded(Net, 4)
    if method in {"gradient_rollout", "legrad"}:
        pytest.skip("the model has no attention")
    if method == "finercam":
        with pytest.raises(
            AttributionError, match=r"^finercam: Finer-CAM compares classes, and the output has one score"
        ):
            attribute(model, x, lambda output: output[:, 2], method)
        return
    by_index = attribute(model, x, 2, method, **QUICK.get(method, {}))
    measures = method in {"rise", "recipro_cam"}  # probabilities
    given: Any = t.ClassLogit(2) if measures else lambda output: output[:, 2]
    by_function = attribute(model, x, given, method, **QUICK.get(method, {}))
    torch.testing.assert_close(by_function.values, by_index.values, atol=1e-6, rtol=1e-4)
    assert all(p.grad is None for p in model.parameters())


def test_each_image_can_have_a_target_of_its_own(x: Tensor) -> None:
    model = seeded(Net, 4)
    targets = [t.Contrast(t.ClassLogit(0), t.ClassLogit(1)), lambda output: output[:, 3]]
    both = attribute(model, x, targets, "gradcam").values
    for n, target in enumerate(targets):
        torch.testing.assert_close(both[n : n + 1], attribute(model, x[n : n + 1], target, "gradcam").values)
    with pytest.raises(TargetError, match=r"one for each of 2 images; got shape \(3,\)"):
        attribute(model, x, [t.ClassLogit(0)] * 3, "gradcam")


class Heads(nn.Module):
    """Two heads in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.other = Net(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        scores = self.net(x)
        return {"first": scores, "second": self.other(scores)}


def test_a_head_is_chosen_by_its_path(x: Tensor) -> None:
    model = seeded(Heads)
    with pytest.raises(AttributionError, match=r"\(first, second\); choose one with output='first'"):
        attribute(model, x, 1, "gradcam")
    chosen = attribute(model, x, 1, "saliency", output="second").values
    by_function = attribute(model, x, 1, "saliency", output=lambda output: output["second"]).values
    assert torch.equal(chosen, by_function)
    assert not torch.equal(chosen, attribute(model, x, 1, "saliency", output="first").values)
    with pytest.raises(ModelError, match="no part 'third'"):
        attribute(model, x, 1, "saliency", output="third")


class Change(nn.Module):
    """One encoder sees two dates; the difference is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net(4)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        later = self.net.features(after)
        earlier = self.net.features(before)
        return self.net.head((later - earlier).abs().mean((2, 3)))


def test_of_several_inputs_the_chosen_image_is_explained_at_its_own_call(x: Tensor) -> None:
    model, before, after = seeded(Change), x, x.flip(0)
    heatmap = attribute(model, (before, after), 1, "gradcam", image=1, relu=False)
    assert heatmap.source == "net.relu@0"
    kept: list[Tensor] = []
    handle = model.net.relu.register_forward_hook(lambda _m, _i, y: kept.append(y))
    score = model(before, after)[:, 1].sum()
    handle.remove()
    a, g = kept[0], torch.autograd.grad(score, kept[0])[0]
    wanted = F.interpolate((g.mean((2, 3), keepdim=True) * a).sum(1)[:, None], (24, 32), mode="bilinear")[:, 0]
    torch.testing.assert_close(heatmap.values, wanted.detach(), atol=1e-6, rtol=1e-4)
    named = attribute(model, {"before": before, "after": after}, 1, "gradcam", image="after", relu=False)
    assert torch.equal(named.values, heatmap.values)
    first = attribute(model, (before, after), 1, "gradcam", relu=False)
    assert first.source == "net.relu"
    assert not torch.equal(first.values, heatmap.values)
    with pytest.raises(AttributionError, match="has no images at 'later'"):
        attribute(model, {"before": before, "after": after}, 1, "gradcam", image="later")


def test_a_layer_is_chosen_by_its_call(x: Tensor) -> None:
    model = seeded(Change)
    last = attribute(model, (x, x.flip(0)), 1, "gradcam", image=1, layer="net.relu@0")
    assert last.source == "net.relu@0"
    with pytest.raises(AttributionError, match="ran 2 times; wanted call 2"):
        attribute(model, (x, x.flip(0)), 1, "gradcam", image=1, layer="net.relu@2")


class Flattening(nn.Module):
    """As LeNet: its view fails on channels-last features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 6, 5), nn.Linear(6 * 12 * 12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        return self.head(x.view(x.size(0), -1))


@pytest.mark.parametrize(
    "method",
    ["gradcam", "finercam", "saliency", "smoothgrad", "rise", "scorecam", "ablationcam", "recipro_cam", "occlusion"],
)
def test_a_model_that_needs_its_inputs_contiguous_is_explained(method: str) -> None:
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert attribute(seeded(Flattening), x, 3, method, **QUICK.get(method, {})).values.shape == (2, 28, 28)


class Volume(nn.Module):
    """A classifier of volumes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(1, 4, 3, 2, 1), nn.Conv3d(4, 4, 3, padding=1)
        self.relu, self.last = nn.ReLU(), nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.second(self.relu(self.first(x)))).mean((2, 3, 4)))


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"gradient_rollout", "legrad", "lrp"}))
def test_volumes_have_maps_of_all_slices(method: str) -> None:
    model = seeded(Volume)
    x = torch.rand(1, 1, 6, 8, 10, generator=torch.Generator().manual_seed(0))
    heatmap = attribute(model, x, 1, method, **QUICK.get(method, {}))
    assert heatmap.values.shape == (1, 6, 8, 10)


def test_grad_cam_of_a_volume_is_that_by_hand() -> None:
    model = seeded(Volume)
    x = torch.rand(1, 1, 6, 8, 10, generator=torch.Generator().manual_seed(0))
    a = F.relu(model.second(F.relu(model.first(x))))
    (g,) = torch.autograd.grad(model.head(a.mean((2, 3, 4)))[0, 1], a)
    wanted = F.interpolate((g.mean((2, 3, 4), keepdim=True) * a).sum(1)[:, None], (6, 8, 10), mode="trilinear")
    heatmap = attribute(model, x, 1, "gradcam", relu=False)
    assert heatmap.source == "last"
    torch.testing.assert_close(heatmap.values, wanted[:, 0].detach())


def test_integrated_gradients_of_any_target_sum_to_its_rise(x: Tensor) -> None:
    model, target = seeded(Net, 4), t.Contrast(t.ClassLogit(0), t.ClassLogit(1))
    heatmap = attribute(model, x, target, "integrated_gradients", steps=64)
    with torch.no_grad():
        rise = target(model(x)) - target(model(torch.zeros_like(x)))
    gap = completeness_gap(model, x, target, heatmap)
    torch.testing.assert_close(heatmap.values.sum((1, 2)) - gap, rise, atol=1e-5, rtol=1e-4)
    assert float(gap.abs().max()) < 0.02 * float(rise.abs().max())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda output: output, r"gives one number for each of 2 images; got shape \(2, 4\)"),
        (lambda _output: 3.0, "got a float"),
        (lambda output: output.detach()[:, 0], "no gradient flows"),
    ],
)
def test_a_function_that_is_no_target_is_an_error(target: Any, message: str, x: Tensor) -> None:
    with pytest.raises((TargetError, AttributionError), match=message):
        attribute(seeded(Net, 4), x, target, "saliency")


class Segmenter(nn.Module):
    """A logit for each class and position."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.out = Net(4), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        planes = self.out(self.net.features(x))
        return {"out": F.interpolate(planes, x.shape[2:], mode="bilinear", align_corners=False)}


def test_the_default_layer_of_a_segmentation_is_not_its_own_output(x: Tensor) -> None:
    heatmap = attribute(seeded(Segmenter), x[:1], t.ClassInRegion(1, torch.ones(24, 32, dtype=torch.bool)), "gradcam")
    assert heatmap.source == "net.relu"


def scaled(maps: Any) -> np.ndarray[Any, Any]:
    """Positive part of each map, put between 0 and 1."""
    maps = np.maximum(np.asarray(maps, dtype=np.float64), 0)
    maps = maps - maps.min(axis=(1, 2), keepdims=True)
    return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-7)


@pytest.mark.filterwarnings("ignore")
class TestParity:
    """The numbers of pytorch-grad-cam for its targets, on shared layers."""

    def compare(self, model: nn.Module, x: Tensor, layer: str, ours: t.Target, theirs: Any, path: Any = None) -> None:
        """Compare maps at the resolution of the layer, enlarged as theirs are."""
        import cv2

        peers = pytest.importorskip("pytorch_grad_cam")
        subject = Subject(model, output=path)
        with borrowed(model):
            logits = Logits(subject, Objective.of_target(ours, len(x)))
            plan = METHODS["gradcam"].prepare(logits, x, layer=layer)
            found = plan.attribution.attribute(x, target=0)[:, 0].detach().numpy()
        wrapped = Selected(model, path)
        with peers.GradCAM(wrapped, [wrapped.model.get_submodule(layer)]) as peer:
            wanted = peer(x.clone(), [theirs] * len(x))
        size = (x.shape[3], x.shape[2])
        enlarged = np.stack([cv2.resize(one.astype(np.float32), size) for one in scaled(found)])
        np.testing.assert_allclose(scaled(enlarged), scaled(wanted), atol=1e-4)
        assert float(np.std(enlarged)) > 0.05

    def test_of_a_single_logit(self, x: Tensor) -> None:
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
        for sign in (True, False):
            theirs = targets.BinaryClassifierOutputTarget(int(sign))
            self.compare(seeded(Net, 1), x, "relu", t.SingleLogit(sign), theirs)

    def test_of_a_class_in_a_region(self, x: Tensor) -> None:
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
        region = torch.zeros(24, 32, dtype=torch.bool)
        region[5:20, 3:15] = True
        theirs = targets.SemanticSegmentationTarget(2, region.float().numpy())
        self.compare(seeded(Segmenter), x, "net.relu", t.ClassInRegion(2, region), theirs, "out")

    def test_of_a_similarity(self, x: Tensor) -> None:
        other = torch.randn(4, generator=torch.Generator().manual_seed(3))
        theirs = lambda output: torch.cosine_similarity(output, other, dim=0)  # noqa: E731  # their documented target
        self.compare(seeded(Net, 4), x, "relu", t.Similarity(other), theirs)

    def test_of_an_object(self) -> None:
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
        detection = pytest.importorskip("torchvision.models.detection")
        torch.manual_seed(1)
        model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=4, box_score_thresh=0.0, box_detections_per_img=5,
            min_size=160, max_size=200,
        ).eval()  # fmt: skip
        for norm in model.modules():
            if hasattr(norm, "running_var"):
                norm.running_var.fill_(0.2)  # untrained statistics leave no signal
        x = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            found = model(x)[0]
        box, label = found["boxes"][0], int(found["labels"][0])
        theirs = targets.FasterRCNNBoxScoreTarget([label], box[None].numpy())
        ours = t.DetectedObject(tuple(box.tolist()), label, (96, 96))
        self.compare(model, x, "backbone.body.6", ours, theirs)


class Selected(nn.Module):
    """A model that returns a part of its output, for libraries that take no other."""

    def __init__(self, model: nn.Module, path: Any) -> None:
        super().__init__()
        self.model, self.path = model, path

    def forward(self, x: Tensor) -> Any:
        return select(self.model(x), self.path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["module.compile", "forward", "a block"])
def test_a_compiled_model_has_the_maps_of_the_plain_one(way: str, x: Tensor) -> None:
    plain, model = seeded(Net, 4), seeded(Net, 4)
    if way == "module.compile":
        model.compile(backend="eager")
    elif way == "forward":
        model.forward = torch.compile(model.forward, backend="eager")  # type: ignore[method-assign]  # as users do
    else:
        model.second.compile(backend="eager")
    with torch.no_grad():
        model(x)  # compiled before
    for method in ("gradcam", "saliency"):
        assert torch.equal(attribute(model, x, 1, method).values, attribute(plain, x, 1, method).values)
    torch._dynamo.reset()


class Rounded(torch.autograd.Function):
    """An operation without a derivative for its input, as those of quantised models."""

    @staticmethod
    def forward(_context: Any, x: Tensor, bias: Tensor) -> Tensor:
        return x.round() + bias

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient.sum(0)


class Quantised(Net):
    """A network that autograd follows to its bias and not to the image."""

    def forward(self, x: Tensor) -> Any:
        bias = x.mean((0, 2, 3))[:1].detach().requires_grad_().expand(4)
        return Rounded.apply(super().forward(x).detach(), bias) + 0 * x.detach().sum()


@pytest.mark.parametrize("method", ["saliency", "gradcam"])
def test_a_model_without_a_gradient_is_named_in_one_line(method: str, x: Tensor) -> None:
    with pytest.raises(AttributionError, match=f"{method}: no gradient flows") as error:
        attribute(seeded(Quantised, 4), x, 1, method)
    assert "\n" not in str(error.value)
    assert attribute(seeded(Quantised, 4), x, 1, "occlusion").values.shape == (2, 24, 32)


def test_recomputed_activations_are_named_in_one_line(x: Tensor) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=4, img_size=64, depth=2).eval()
    model.set_grad_checkpointing(True)
    with pytest.raises(AttributionError, match="switch its gradient checkpointing off"):
        attribute(model, torch.rand(1, 3, 64, 64), 1, "legrad")
