"""How the logit changes with the attention itself: slopes of ``g`` at every site, wherever ``g`` is computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attnviz.attribution.borrow import borrowed
from attnviz.attribution.methods import HasModule
from attnviz.attribution.targets import Logits, as_targets
from attnviz.capture import capture
from attnviz.errors import CaptureError
from attnviz.intervene import intervene
from attnviz.records import Record, Site


def attention_slopes(
    vision: HasModule | nn.Module, x: Tensor, target: int | Tensor | Sequence[int], sites: Sequence[Site]
) -> tuple[list[Record], list[Tensor]]:
    r"""The records of one forward pass and, for each, the slopes of the class's logit.

    .. math:: G = \partial s / \partial g

    The captured ``g`` is put back as a value that autograd follows, so that fused attention has slopes too.

    Args:
        vision: A model, or an object with one as ``.module``; it is left as it was found.
        x: Images ``(N, C, H, W)``.
        target: A class for all images, or one for each.
        sites: From ``find_attention``.

    Returns:
        Records, detached from the model's graph but for their ``g``, and a slope of the shape of each ``g``.

    Raises:
        CaptureError: a site that the logits do not depend on.
        TargetError: a class that the model does not have.
    """
    module = vision if isinstance(vision, nn.Module) else vision.module
    targets = as_targets(target, len(x)).to(x.device)
    given: list[Tensor] = []

    def followed(g: Tensor) -> Tensor:
        given.append(g if g.requires_grad else g.detach().requires_grad_())
        return given[-1]

    with borrowed(module):
        images = x.detach().clone()
        with intervene(module, {"*": followed}, sites), capture(module, sites) as captured:
            answer = Logits(module, int(targets.max()))(images)
        score = answer.gather(1, targets[:, None]).sum()
        slopes = torch.autograd.grad(score, given, allow_unused=True) if given else ()
    for record, slope in zip(captured.records, slopes, strict=True):
        if slope is None:
            raise CaptureError(f"{record.site.name}: the logits do not depend on this attention")
    return list(captured.records), [slope for slope in slopes if slope is not None]
