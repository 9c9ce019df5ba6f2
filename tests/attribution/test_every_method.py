"""What every attribution method must do: one table over the registry, so that a new method is tested by existing."""

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnviz.attribution import METHODS, Logits, attribute
from attnviz.core.records import Heatmap
from attnviz.errors import AttributionError, TargetError, UnknownNameError

QUICK: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 3},
    "smoothgrad": {"samples": 3},
    "vargrad": {"samples": 3},
    "gradient_shap": {"samples": 3},
    "rise": {"samples": 12},
    "lime": {"samples": 40, "segments": 9},
    "kernel_shap": {"samples": 40, "segments": 9},
    "feature_ablation": {"segments": 9},
}
RANDOM = {"smoothgrad", "vargrad", "gradient_shap", "rise", "lime", "kernel_shap"}
LAYERED = {
    *("cam", "gradcam", "gradcam++", "hirescam", "xgradcam", "layercam", "eigencam", "scorecam", "ablationcam"),
    *("guided_gradcam", "finercam", "recipro_cam"),
}
FITTED = {"lime", "kernel_shap"}  # zero but for rounding
# have an option for the sign
SIGNED = {"gradcam", "gradcam++", "hirescam", "xgradcam", "cam", "ablationcam", "finercam"}
REFUSED = {  # a method that does not apply raises an error, and is never replaced by another
    **{(method, "MobileNetV3"): "the rule is defined only for ReLU, and the model has Hardswish"
       for method in ("guided_backprop", "deconvolution", "guided_gradcam")},
    ("deeplift", "ResNet"): r"layer1\.0\.relu runs 2 times",
    ("deeplift", "MobileNetV3"): "the shares sum to",
    ("deeplift", "EfficientNet"): "the shares sum to",
    ("lrp", "MobileNetV3"): "no rule follows Hard",
    ("lrp", "EfficientNet"): "no rule follows Hardtanh",
    **{(method, name): "the model has no pairwise attention"
       for method in ("gradient_rollout", "legrad") for name in ("ResNet", "MobileNetV3", "EfficientNet")},
}  # fmt: skip
CLASSLESS = {"eigencam"}  # the same map for every target
GRADIENT_FREE = {"occlusion", "feature_ablation", "lime", "kernel_shap", "rise"}
# no map of zeros where the logit is flat, and documented so
RELEVANT_WHEN_FLAT = {"eigencam", "rise", "scorecam", "recipro_cam", "finercam"}

every_method = pytest.mark.parametrize("method", list(METHODS))


def run(model: Any, x: Tensor, target: Any, method: str, **options: Any) -> Heatmap:
    return attribute(model, x, target, method, **{**QUICK.get(method, {}), **options})


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that a borrower could have changed."""
    return {
        "modes": [m.training for m in model.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), "forward" in m.__dict__)
            for m in model.modules()
        ],
        "frozen": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "values": [v.clone() for v in model.state_dict().values()],
        "random": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for what, value in before.items():
        if isinstance(value, Tensor) or (value and isinstance(value, list) and isinstance(value[0], Tensor)):
            assert all(torch.equal(a, b) for a, b in zip(value, after[what], strict=True)), what
        else:
            assert value == after[what], what


def unusual(model: nn.Module) -> None:
    """Put a model in a state that a borrower who restores defaults would not give back."""
    model.train()
    model.conv1.eval()  # type: ignore[union-attr]
    model.head.weight.requires_grad = False  # type: ignore[union-attr]
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    model.conv2.register_forward_hook(lambda *_: None)  # type: ignore[union-attr]


@every_method
def test_a_map_is_of_the_size_dtype_and_device_of_the_image(method: str, stem: nn.Module, images: Tensor) -> None:
    for dtype in (torch.float32, torch.float64):
        heatmap = run(copy.deepcopy(stem).to(dtype), images[:, :, :, :24].to(dtype), 2, method)
        assert heatmap.values.shape == (3, 32, 24)
        assert (heatmap.values.dtype, heatmap.values.device) == (dtype, images.device)
        assert (heatmap.method, heatmap.kind, heatmap.name) == (method, "attribution", method)
        assert not heatmap.values.requires_grad
        assert heatmap.values.abs().sum() > 0


@every_method
def test_each_image_gets_in_a_batch_what_it_gets_alone(method: str, stem: nn.Module, images: Tensor) -> None:
    together = run(stem, images, torch.tensor([0, 4, 2]), method).values
    for i, target in enumerate((0, 4, 2)):
        alone = run(stem, images[i : i + 1], target, method).values[0]
        torch.testing.assert_close(together[i], alone, atol=1e-6, rtol=1e-4)


@every_method
def test_targets_of_each_image_and_of_all_may_be_numbers_lists_or_tensors(
    method: str, stem: nn.Module, images: Tensor
) -> None:
    wanted = run(stem, images, 3, method).values
    for target in (torch.tensor(3), [3, 3, 3], torch.tensor([3, 3, 3], dtype=torch.int32)):
        assert torch.equal(run(stem, images, target, method).values, wanted)
    other = run(stem, images, 1, method).values
    assert torch.equal(other, wanted) == (method in CLASSLESS)


@every_method
def test_a_seed_gives_the_same_map_whatever_was_drawn_before(method: str, stem: nn.Module, images: Tensor) -> None:
    first = run(stem, images, 1, method, seed=3).values
    torch.randn(5)
    assert torch.equal(run(stem, images, 1, method, seed=3).values, first)
    generator = torch.Generator().manual_seed(3)
    one, two = (run(stem, images, 1, method, seed=generator).values for _ in range(2))
    assert torch.equal(run(stem, images, 1, method, seed=torch.Generator().manual_seed(3)).values, one)
    if method in RANDOM:
        assert not torch.equal(run(stem, images, 1, method, seed=4).values, first)
        assert not torch.equal(one, two)


@every_method
def test_a_model_and_its_input_are_left_as_they_were(method: str, stem: nn.Module, images: Tensor) -> None:
    unusual(stem)
    kept, before = images.clone(), state_of(stem)
    run(stem, images, 1, method)
    assert_same(before, state_of(stem))
    assert torch.equal(images, kept)
    assert not images.requires_grad
    assert images.grad is None


def explode(*_: Any) -> None:
    raise RuntimeError("the model's own trouble")


BREAKS: dict[str, tuple[Callable[[Any], Any], int, type[Exception], str]] = {
    "bad target": (lambda _m: None, 5, TargetError, r"^(Stem|Chain|Attentive) has 5 classes, 0 to 4; got 5$"),
    "raising model": (lambda m: m.relu.register_forward_hook(explode), 0, RuntimeError, "the model's own trouble"),
    "huge weights": (
        lambda m: m.head.weight.data.fill_(torch.inf),
        0,
        AttributionError,
        "NaN or infinite for|infinity",
    ),
    "no logits": (
        lambda m: setattr(m.head, "forward", lambda x: x[:, :, None]),
        0,
        AttributionError,
        r"(Stem|Chain|Attentive): wanted logits \(\d+, classes\), got shape \(\d+, 8, 1\)$",
    ),
    "cut gradient": (
        lambda m: setattr(m.head, "forward", lambda x: x.detach() * m.head.bias.sum()),
        0,
        AttributionError,
        "no gradient flows from the scores",
    ),
}


UNAFFECTED = {"cut gradient": GRADIENT_FREE, "huge weights": CLASSLESS}


@pytest.mark.parametrize(
    ("method", "trouble"), [(m, t) for m in METHODS for t in BREAKS if m not in UNAFFECTED.get(t, ())]
)
def test_a_model_is_left_as_it_was_after_an_error(method: str, trouble: str, stem: nn.Module, images: Tensor) -> None:
    break_it, target, error, message = BREAKS[trouble]
    unusual(stem)
    break_it(stem)
    before = state_of(stem)
    with pytest.raises(error, match=message) as raised:
        run(stem, images[:1], target, method)
    assert "\n" not in str(raised.value)
    assert_same(before, state_of(stem))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (-1, "starts at 0, got -1"),
        (1.5, "an integer; got 1.5"),
        (True, "an integer; got True"),
        ("tabby cat", "'tabby cat': the model has no class names"),
        ([[0], [1, 2]], "one for each of 3 images; got 2"),
        ([0, 1], r"or one for each of 3 images; got shape \(2,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), r"got shape \(3, 2\)"),
    ],
)
@every_method
def test_a_target_that_is_no_class_is_refused(
    method: str, target: Any, message: str, stem: nn.Module, images: Tensor
) -> None:
    with pytest.raises(TargetError, match=message):
        run(stem, images, target, method)


@pytest.mark.parametrize("shape", [(3, 32, 32), (0, 3, 32, 32), (1, 1, 3, 4, 32, 32)])
@every_method
def test_what_is_no_batch_of_images_is_refused(method: str, shape: tuple[int, ...], stem: nn.Module) -> None:
    wanted = rf"{re.escape(method)}: wanted .* images \(N, C, H, W\) or volumes .*, got torch.float32"
    with pytest.raises(AttributionError, match=wanted):
        run(stem, torch.zeros(shape), 0, method)
    with pytest.raises(AttributionError, match=r"got torch\.uint8 of shape"):
        run(stem, torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0, method)
    with pytest.raises(AttributionError, match="got a ndarray"):
        run(stem, torch.zeros(1, 3, 8, 8).numpy(), 0, method)  # type: ignore[arg-type]


@every_method
def test_the_callers_grad_mode_does_not_matter(method: str, stem: nn.Module, images: Tensor) -> None:
    wanted = run(stem, images, 1, method).values
    with torch.no_grad():
        assert torch.equal(run(stem, images, 1, method).values, wanted)
    with torch.inference_mode():
        values = run(stem, images.clone(), 1, method).values
    assert torch.equal(values.clone(), wanted)
    assert torch.equal(run(stem, images.clone().requires_grad_(), 1, method).values, wanted)
    frozen = copy.deepcopy(stem).requires_grad_(False)
    assert torch.equal(run(frozen, images, 1, method).values, wanted)


@every_method
def test_dropout_and_batch_statistics_play_no_part(method: str, stem: nn.Module, images: Tensor) -> None:
    wanted = run(stem, images, 1, method).values
    assert torch.equal(run(stem.train(), images, 1, method).values, wanted)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "lrp"])  # which has no rule for a subtraction
def test_a_model_may_overwrite_its_input(method: str, stem: nn.Module, images: Tensor) -> None:
    class Normalised(nn.Module):
        def __init__(self, *, in_place: bool) -> None:
            super().__init__()
            self.body, self.in_place = stem, in_place

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.sub_(0.5) if self.in_place else x - 0.5)

    kept = images.clone()
    wanted = run(Normalised(in_place=False), images, 1, method).values
    torch.testing.assert_close(run(Normalised(in_place=True), images, 1, method).values, wanted, atol=1e-5, rtol=1e-4)
    assert torch.equal(images, kept)


@every_method
def test_an_object_that_holds_a_module_is_explained_as_the_module(method: str, stem: nn.Module, images: Tensor) -> None:
    class Vision:
        module = stem

    assert torch.equal(run(Vision(), images, 1, method).values, run(stem, images, 1, method).values)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in RELEVANT_WHEN_FLAT])
def test_a_logit_that_is_flat_gives_a_map_of_zeros(method: str, stem: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        stem.head.weight[2] = 0  # type: ignore[union-attr,index]
    values = run(stem, images, 2, method).values
    torch.testing.assert_close(values, torch.zeros(3, 32, 32), atol=1e-6 if method in FITTED else 0.0, rtol=0)


@every_method
def test_a_published_cnn_is_explained_without_naming_a_layer(method: str, real: tuple[nn.Module, str]) -> None:
    model, layer = real
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = state_of(model)
    if (method, type(model).__name__) in REFUSED:
        with pytest.raises(AttributionError, match=f"^{method}: {REFUSED[method, type(model).__name__]}"):
            run(model, x, [1, 7], method)
    else:
        heatmap = run(model, x, [1, 7], method, **({"relu": False} if method in SIGNED else {}))
        assert heatmap.values.shape == (2, 64, 64)
        assert heatmap.values.isfinite().all()
        assert method == "guided_gradcam" or heatmap.values.flatten(1).std(dim=1).gt(0).all()
        assert heatmap.source == (layer if method in LAYERED else "input")
    assert_same(before, state_of(model))


@every_method
def test_captums_own_tools_take_a_methods_attribution(method: str, stem: nn.Module, images: Tensor) -> None:
    from captum.attr import Attribution, NoiseTunnel

    x = images[:1].clone().requires_grad_()
    plan = METHODS[method].prepare(Logits(stem), x, **QUICK.get(method, {}))
    assert isinstance(plan.attribution, Attribution)
    if method not in {"smoothgrad", "vargrad", "gradient_shap"}:  # which add noise themselves
        with torch.random.fork_rng():
            options = {"nt_samples": 2, "nt_samples_batch_size": 1, "target": 1, **plan.arguments(x), "stdevs": 0.1}
            noisy = NoiseTunnel(plan.attribution).attribute(x, **options)
        assert noisy.shape[0] == len(x)


def test_every_method_has_a_summary_of_one_line() -> None:
    for name in METHODS:
        assert METHODS[name].name == name
        summary = METHODS[name].prepare.__doc__.splitlines()[0]
        assert summary.endswith(".")
        assert len(summary) < 120


def test_an_unknown_method_suggests_the_nearest(stem: nn.Module, images: Tensor) -> None:
    with pytest.raises(UnknownNameError, match="unknown attribution method 'grad-cam': did you mean gradcam"):
        attribute(stem, images, 0, "grad-cam")


def test_captum_is_imported_when_a_method_is_used_and_not_before() -> None:
    code = "import sys, attnviz.attribution as a; assert len(a.METHODS); sys.exit('captum' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603  # our own code
