"""Attribution by modified backward rules, or along paths from references."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.attribution.layer_activations import features_and_gradients
from attnviz.attribution.layers import Layer, find_layer
from attnviz.attribution.methods.cam import gradcam_formula
from attnviz.attribution.methods.gradient import check_noise, strongest_channel
from attnviz.attribution.registry import PreparedAttribution, check_count, method, passes_at_once, resized
from attnviz.attribution.targets import Logits
from attnviz.core.model_state import observing_outputs
from attnviz.errors import AttributionError


@method(
    "input_x_gradient",
    title="Input × gradient",
    means="The gradient times the pixel: a first-order estimate of the contribution of each pixel to the score.",
    not_means="The contribution of pixels at the mean colour: their value is 0.",
    quick=True,
)
def input_x_gradient(logits: Logits, x: Tensor) -> PreparedAttribution:
    r"""Input times gradient: each pixel's share of the logit, were the model linear.

    .. math:: M_{ij} = \sum_c x_{cij} \, \partial s / \partial x_{cij}

    The sign is kept. A pixel of the preprocessing's mean colour gets 0, whatever it does.

    Source: Shrikumar et al., 2016 (arXiv 1605.01713).
    """
    from captum.attr import InputXGradient

    return PreparedAttribution(
        InputXGradient(logits), reduce=lambda values: values.sum(dim=1), images_at_once=passes_at_once(x)
    )


@method(
    "gradient_shap",
    title="GradientSHAP",
    means="Expected contribution of each pixel to the score, over noisy images and baselines.",
    not_means="Exact Shapley values: contributions are assumed to be additive.",
)
def gradient_shap(
    logits: Logits, x: Tensor, *, samples: int = 16, noise: float = 0.1, baseline: float = 0.0
) -> PreparedAttribution:
    r"""GradientSHAP: the expected gradient between references and the noisy image, times their difference.

    .. math:: M_{ij} = \sum_c \mathbb{E}_{\alpha, \epsilon, x'} \left[ (x + \epsilon - x')_{cij} \,
        \partial s(x' + \alpha (x + \epsilon - x')) / \partial x_{cij} \right]

    The two references ``x'`` are the blank image and the mean colour of the image. ``alpha`` is uniform.

    Options:
        samples: Points at which the gradient is taken; all run together.
        noise: Standard deviation of the noise, relative to the range of values of each image.
        baseline: Value of the blank image.

    Raises:
        AttributionError: fewer than 1 sample, or negative noise.

    Source: Lundberg and Lee, NeurIPS 2017, as in Captum's ``GradientShap``.
    """
    from attnviz.attribution.captum_wrappers import ExpectedGradients

    check_count("gradient_shap", samples=samples)
    check_noise("gradient_shap", noise)

    def arguments(images: Tensor) -> dict[str, Any]:
        mean = images.detach().mean(dim=(0, *range(2, images.ndim)), keepdim=True)
        blank = torch.full_like(images.detach()[:1], baseline)
        spread = float((images.amax() - images.amin()).detach())
        return {"baselines": torch.cat([blank, blank * 0 + mean]), "n_samples": samples, "stdevs": noise * spread}

    return PreparedAttribution(ExpectedGradients(logits), reduce=lambda values: values.sum(dim=1), arguments=arguments)


@method(
    "guided_backprop",
    title="Guided Backprop",
    means="The gradient, where only positive gradients of active ReLUs are passed on: what excites the class.",
    not_means="Evidence for this class: it is similar for every class and follows edges.",
    quick=True,
)
def guided_backprop(logits: Logits, x: Tensor) -> PreparedAttribution:
    r"""Guided Backpropagation: the gradient, where each ReLU passes only positive gradients of active units.

    .. math:: R^{l} = [f^{l} > 0] \, [R^{l+1} > 0] \, R^{l+1}

    It nearly restores the image and hardly depends on the class (Adebayo et al., NeurIPS 2018).

    Raises:
        AttributionError: the model has no ReLU, or activations for which the rule is not defined.

    Source: Springenberg et al., ICLR workshop 2015, section 3.4.
    """
    from attnviz.attribution.captum_wrappers import RectifiedGradient

    return PreparedAttribution(
        RectifiedGradient(logits, forward_mask=True), reduce=strongest_channel, images_at_once=passes_at_once(x)
    )


@method(
    "deconvolution",
    title="Deconvnet",
    means="The gradient, where only positive gradients are passed on through each ReLU.",
    not_means="Evidence for this class: it mostly reconstructs the image.",
    quick=True,
)
def deconvolution(logits: Logits, x: Tensor) -> PreparedAttribution:
    r"""Deconvnet: the gradient, where each ReLU passes only positive gradients.

    .. math:: R^{l} = [R^{l+1} > 0] \, R^{l+1}

    Raises:
        AttributionError: the model has no ReLU, or activations for which the rule is not defined.

    Source: Zeiler and Fergus, ECCV 2014, section 2.1.
    """
    from attnviz.attribution.captum_wrappers import RectifiedGradient

    return PreparedAttribution(
        RectifiedGradient(logits, forward_mask=False), reduce=strongest_channel, images_at_once=passes_at_once(x)
    )


@method(
    "guided_gradcam",
    title="Guided Grad-CAM",
    means="Guided Backprop multiplied by Grad-CAM.",
    not_means="Fine evidence: the detail comes from Guided Backprop, which hardly depends on the class.",
    quick=True,
)
def guided_gradcam(logits: Logits, x: Tensor, *, layer: str | Layer | None = None) -> PreparedAttribution:
    r"""Guided Grad-CAM: Guided Backpropagation, times Grad-CAM brought to the size of the image.

    ``layer`` and errors are those of ``gradcam`` and ``guided_backprop``.

    Source: Selvaraju et al., ICCV 2017, section 3.2; upsampled bilinearly (Captum's default is nearest).
    """
    from attnviz.attribution.captum_wrappers import RectifiedGradient

    found = find_layer(logits, x, layer)
    guided = RectifiedGradient(logits, forward_mask=True)

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        fine = guided.attribute(images, targets)
        coarse = gradcam_formula(*features_and_gradients(logits, found, images, targets)).clamp_min(0)[:, None]
        return strongest_channel(fine * resized(coarse, fine.shape[2:]))

    return PreparedAttribution.of_maps(logits, explain, found.name, passes_at_once(x))


@method(
    "deeplift",
    title="DeepLIFT",
    means="Contribution of each pixel to the difference from a baseline image, by differences of activations.",
    not_means="Independent of the baseline, or defined for every network.",
)
def deeplift(logits: Logits, x: Tensor, *, baseline: float | Tensor = 0.0) -> PreparedAttribution:
    r"""DeepLIFT: each pixel's share of the logit's rise from a blank image, by differences of activations.

    .. math:: \sum_{cij} C_{cij} = s(x) - s(x'), \quad M_{ij} = \sum_c C_{cij}

    The Rescale rule: at an activation function, ``C`` is multiplied by the ratio of the differences of its output and
    of its input. Captum follows activations that are modules, each called once. Whether it could follow this model is
    tested by the sum: where it misses the rise by more than 5 %, the method does not apply.

    Options:
        baseline: The blank image ``x'``: a number, or a tensor ``(1, C, H, W)``.

    Raises:
        AttributionError: activations that are functions or are used twice; gates and attention, which multiply values.

    Source: Shrikumar et al., ICML 2017, section 3; Ancona et al., ICLR 2018, for the gradient formulation.
    """
    from captum.attr import DeepLift

    from attnviz.attribution.captum_wrappers import Checked

    _check_one_call_each(logits, x)
    blank = torch.zeros_like(x[:1]) + baseline
    wrapped = LogitsModule(logits)

    def check(images: Tensor, targets: Tensor, values: Tensor) -> None:
        with torch.no_grad():
            rise = (logits(images) - logits(blank)).gather(1, targets[:, None])[:, 0]
        gap = (values.flatten(1).sum(1) - rise).abs()
        if bool((gap > 0.05 * rise.abs() + 1e-3 * values.flatten(1).abs().sum(1)).any()):
            raise AttributionError(
                f"the shares sum to {float(values[0].sum()):.3g} where the logit rises by {float(rise[0]):.3g}: the "
                "model has gates, attention or activations that are no modules, which DeepLIFT's rules do not follow"
            )

    return PreparedAttribution(
        attribution=Checked(
            logits, DeepLift(wrapped, multiply_by_inputs=True), check, within=lambda: not_in_place(logits)
        ),
        reduce=lambda values: values.sum(dim=1),
        images_at_once=passes_at_once(x),
        arguments=lambda _images: {"baselines": blank},
    )


@method(
    "lrp",
    title="LRP",
    means="The score redistributed from layer to layer in proportion to the contribution of each unit.",
    not_means="Unique: other rules redistribute it differently.",
    quick=True,
)
def lrp(logits: Logits, x: Tensor, *, epsilon: float = 1e-6) -> PreparedAttribution:
    r"""Layer-wise relevance propagation: the logit is distributed layer by layer in proportion to contributions.

    .. math:: R_i = \sum_j \frac{(a_i w_{ij})^+}{\sum_{i'} (a_{i'} w_{i'j})^+} R_j \text{ in convolutions}, \quad
        R_i = \sum_j \frac{a_i w_{ij}}{z_j + \epsilon} R_j \text{ elsewhere}

    The first convolution, whose inputs have two signs, units without a positive contribution, and all that is no
    convolution take the epsilon rule; with it alone the map would be input times gradient. Transposed convolutions are
    convolutions. A sum is distributed over its branches, and up-sampled values by the weights of the interpolation. The
    values sum to the logit, but for what biases take.

    Options:
        epsilon: Of the epsilon rule, relative to the largest output of a layer.

    Raises:
        AttributionError: gates and attention, which multiply two values, and activations other than ReLU: no rule
            follows them.

    Source: Bach et al., PLoS ONE 10 (2015), equations 58 and 60; the composite of Montavon et al., 2019, section 10.3,
    and their form as a gradient. Captum's ``LRP`` supports only chains of modules, and changes the weights of the
    model.
    """
    from attnviz.attribution.relevance import Relevance

    if not epsilon >= 0:
        raise AttributionError(f"lrp: epsilon is at least 0, got {epsilon}")
    return PreparedAttribution(
        Relevance(logits, epsilon), reduce=lambda values: values.sum(dim=1), images_at_once=passes_at_once(x)
    )


class LogitsModule(nn.Module):
    """The model as a module whose forward gives logits, for those of Captum's methods that want one."""

    def __init__(self, logits: Logits) -> None:
        super().__init__()
        self.inner = logits.module
        self._logits = [logits]

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self._logits[0](x)


@contextmanager
def not_in_place(logits: Logits) -> Iterator[None]:
    """Activations that overwrite their input do not, while Captum's hooks are on them; their flags come back."""
    with ExitStack() as undo:
        for part in logits.module.modules():
            if getattr(part, "inplace", False) is True:
                undo.callback(setattr, part, "inplace", True)  # noqa: FBT003
                part.inplace = False  # type: ignore[assignment]
        yield


def _check_one_call_each(logits: Logits, x: Tensor) -> None:
    """Raise :class:`AttributionError` for a model that calls an activation twice."""
    calls: Counter[str] = Counter()
    with observing_outputs(logits.module, lambda path, _: calls.update([path])), torch.no_grad():
        logits(x[:1])
    for path, part in logits.module.named_modules():
        is_activation = not any(part.children()) and not any(True for _ in part.parameters())
        if calls[path] > 1 and is_activation and not isinstance(part, nn.Identity):
            raise AttributionError(f"{path} runs {calls[path]} times; Captum's rules follow a module that runs once")
