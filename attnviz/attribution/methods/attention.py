"""Attribution by attention: maps ``g`` weighted by the gradients of the logit."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attnviz.attribution.registry import PreparedAttribution, method, passes_at_once
from attnviz.attribution.targets import Logits
from attnviz.core.records import Kind, Record, Site
from attnviz.errors import AttributionError, CaptureError
from attnviz.recording import capture, same_tokens
from attnviz.tracing import find_attention

ROLLED = "attention of all layers together"


@method(
    "gradient_rollout",
    title="Gradient rollout",
    means="How much of what supports the target class reaches the class token through the attention of all layers.",
    not_means="Everything that the prediction rests on: values, MLPs and normalisation are left out.",
    quick=True,
)
def gradient_rollout(logits: Logits, x: Tensor, *, query: int = 0) -> PreparedAttribution:
    r"""Gradient-weighted rollout: how much evidence for the class reaches a token through all layers.

    .. math:: R_l = R_{l-1} + \bar A_l R_{l-1}, \quad \bar A_l = \tfrac{1}{h} \sum_h (G_l \odot A_l)^+, \quad R_0 = I

    ``A`` is a layer's attention, :math:`G = \partial s / \partial A`; the shortcut of the token is left out of the map.

    Options:
        query: Which token is followed, where there is a class token; without one the mean over all tokens is.

    Raises:
        AttributionError: the model has no self-attention over the same tokens in every layer (windows, reduced keys and
            hierarchies have none).

    Source: Chefer et al., ICCV 2021, equations 5 and 6.
    """

    def explain(records: Sequence[Record], gradients: Sequence[Tensor]) -> Tensor:
        tokens = same_tokens(records)
        prepared = torch.eye(records[0].g.shape[-1], dtype=gradients[0].dtype, device=gradients[0].device)
        relevance = prepared.expand(len(gradients[0]), -1, -1)
        for record, gradient in zip(records, gradients, strict=True):
            relevance = relevance + (record.g.detach() * gradient).clamp_min(0).mean(dim=1) @ relevance
        relevance = relevance - prepared
        row = relevance[:, query] if tokens.prefix else relevance.mean(dim=1)
        return tokens.to_grid(row[:, None], empty=0.0)[:, 0]

    return _prepare(logits, x, explain)


@method(
    "legrad",
    title="LeGrad",
    means="Where the score of the target would rise if the position received more attention, over all layers.",
    not_means="What the model attends to: it is a gradient, and can be high where there is little attention.",
    quick=True,
)
def legrad(logits: Logits, x: Tensor) -> PreparedAttribution:
    r"""LeGrad: how the logit increases with the attention to a position, over all layers.

    .. math:: M = \frac{1}{L} \sum_l \frac{1}{h Q} \sum_{h, q} (G_l)^+_{h q \cdot}

    Here ``s`` is the logit of the model for every layer; in the paper each layer has one, from its tokens.

    Raises:
        AttributionError: the model has no pairwise attention whose keys have positions.

    Source: Bousselham et al., ICCV 2025 (arXiv 2404.03214), section 3.2.
    """

    def explain(records: Sequence[Record], gradients: Sequence[Tensor]) -> Tensor:
        planes = []
        for record, gradient in zip(records, gradients, strict=True):
            layout = record.layout
            if layout is None or layout.keys is None:
                raise CaptureError(
                    f"{record.site.name}: the keys of this attention have no known positions on the image plane"
                )
            planes.append(layout.keys.to_grid(layout.split(gradient.clamp_min(0)).mean((2, 3)), empty=0.0).mean(1))
        size = max(tuple(plane.shape[1:]) for plane in planes)
        resized = [
            torch.nn.functional.interpolate(plane[:, None], size, mode="bilinear", align_corners=False)
            for plane in planes
        ]
        return torch.stack(resized).mean(0)[:, 0]

    return _prepare(logits, x, explain)


def attention_gradients(
    logits: Logits, x: Tensor, targets: Tensor, sites: Sequence[Site]
) -> tuple[list[Record], list[Tensor]]:
    r"""Return the records of one forward pass and, for each, the gradients of the logit.

    .. math:: G = \partial s / \partial g

    Args:
        logits: The model, borrowed.
        x: Images ``(n, C, H, W)``.
        targets: A class for each.
        sites: From ``find_attention``.

    Returns:
        Records, and a gradient with the shape of each ``g``.

    Raises:
        CaptureError: a site that the logits do not depend on.
    """
    images = x.detach().clone().requires_grad_()  # so that every g has a gradient
    with torch.enable_grad(), capture(logits.module, sites) as captured:
        score = logits(images).gather(1, targets[:, None]).sum()
    records = captured.records
    gradients = torch.autograd.grad(score, [record.g for record in records], allow_unused=True) if records else ()
    for record, gradient in zip(records, gradients, strict=True):
        if gradient is None:
            raise CaptureError(f"{record.site.name}: the logits do not depend on this attention")
    return records, [gradient for gradient in gradients if gradient is not None]


def _prepare(
    logits: Logits, x: Tensor, explain: Callable[[Sequence[Record], Sequence[Tensor]], Tensor]
) -> PreparedAttribution:
    args, kwargs = logits.arguments(x[:1])
    sites = [site for site in find_attention(logits.module, *args, **kwargs) if site.kind is Kind.PAIRWISE]
    if not sites:
        raise AttributionError("the model has no pairwise attention")

    def explained(images: Tensor, targets: Tensor) -> Tensor:
        try:
            return explain(*attention_gradients(logits, images, targets, sites))
        except CaptureError as error:
            raise AttributionError(str(error)) from error

    return PreparedAttribution.of_maps(logits, explained, ROLLED, passes_at_once(x))
