"""Does a map depend on what the model learned, on the class, and not on the last digit of a pixel?

``Explain`` is whatever gives a map: an attribution or the attention of a site, called with a model and images.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from attnviz.core.model_state import as_inference, observing_outputs, seeded
from attnviz.metrics.agreement import AGREEMENT

Explain: TypeAlias = Callable[[nn.Module, Tensor], Tensor]
"""From a model and images ``(N, C, H, W)`` to maps ``(N, H, W)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Randomised:
    """What is left of a map after parameters were replaced by random ones.

    Attributes:
        module: Dotted path of the last module that was randomised, with all after it.
        agreement: ``(N,)`` with the map of the model as it was, by strength.
    """

    module: str
    agreement: Tensor


def cascade(
    model: nn.Module, x: Tensor, explain: Explain, *, stages: int = 6, measure: str = "spearman", seed: int = 0
) -> list[Randomised]:
    """Randomise a copy of the model from its output towards its input, and compare the map at some stages.

    A map that does not change shows the image or the architecture, not what was learned.

    Args:
        model: The model; a copy is randomised.
        x: Images ``(N, C, H, W)``.
        explain: What gives the map.
        stages: At how many points, evenly spread over the modules with parameters, a map is made.
        measure: A measure in :data:`~attnviz.metrics.agreement.AGREEMENT`.
        seed: Of the random parameters.

    Returns:
        One for each stage, the output's first. Agreement is NaN where a map is constant.

    Raises:
        ValueError: the model has no parameters, or fewer than 1 stage.

    Source: Adebayo et al., NeurIPS 2018, section 4.1, cascading randomisation. A module is randomised by its own
    ``reset_parameters``, or by a normal distribution with the same standard deviation if it has none.
    """
    if stages < 1:
        raise ValueError(f"wanted at least 1 stage, got {stages}")
    plain = explain(model, x).abs()
    private = copy.deepcopy(model)
    modules = dict(private.named_modules())
    paths = [path for path in _order(private, x) if any(True for _ in modules[path].parameters(recurse=False))]
    if not paths:
        raise ValueError(f"{type(model).__name__} has no parameters that could be randomised")
    stops = {round((k + 1) * len(paths) / min(stages, len(paths))) - 1 for k in range(min(stages, len(paths)))}
    found = []
    with seeded(x.device, seed):
        for number, path in enumerate(paths):
            _randomise(modules[path])
            if number in stops:
                found.append(Randomised(path, AGREEMENT[measure](plain, explain(private, x).abs())))
    return found


def _order(model: nn.Module, x: Tensor) -> list[str]:
    """Modules in the order in which they finish, the last first; those that do not run are left out."""
    finished: dict[str, None] = {}

    def note(path: str, _output: Any) -> None:
        finished.pop(path, None)
        finished[path] = None

    with as_inference(model), observing_outputs(model, note):
        model(x[:1])
    return list(finished)[::-1]


def _randomise(module: nn.Module) -> None:
    own = getattr(module, "reset_parameters", None)
    if callable(own):
        own()
        return
    for parameter in module.parameters(recurse=False):
        spread = float(parameter.detach().float().std(correction=0)) or 1.0
        with torch.no_grad():
            parameter.normal_(0.0, spread)


def independence_from_target(maps: Tensor, of_others: Sequence[Tensor], *, measure: str = "spearman") -> Tensor:
    """Return the similarity of the maps of two classes: 1 for attention, which does not depend on a class.

    Args:
        maps: ``(N, H, W)`` of the target class.
        of_others: The same for other classes.
        measure: A measure in :data:`~attnviz.metrics.agreement.AGREEMENT`.

    Returns:
        ``(N,)``: the mean agreement, by strength; NaN where a map is constant.

    Raises:
        ValueError: no other class.

    Source: Sixt et al., ICML 2020; Quantus' ``RandomLogit``.
    """
    if not of_others:
        raise ValueError("wanted maps of at least one other class")
    return torch.stack([AGREEMENT[measure](maps.abs(), other.abs()) for other in of_others]).mean(dim=0)


def max_sensitivity(
    x: Tensor, explain: Callable[[Tensor], Tensor], *, radius: float = 0.02, samples: int = 8, seed: int = 0
) -> Tensor:
    r"""Max-sensitivity: how far a map moves, relative to its size, when the image changes imperceptibly.

    .. math:: \max_{\lVert \delta \rVert_\infty \le r} \lVert M(x + \delta) - M(x) \rVert / \lVert M(x) \rVert

    Args:
        x: Images ``(N, C, H, W)``.
        explain: From images to maps ``(N, H, W)``.
        radius: ``r``, relative to the range of the images.
        samples: How many ``delta`` are drawn; the largest found is a lower bound.
        seed: Of the draws.

    Returns:
        ``(N,)``, 0 or more, float64; NaN where the map is zero or not finite.

    Source: Yeh et al., NeurIPS 2019, definition 3.1; by Captum.
    """
    from captum.metrics import sensitivity_max

    reach = radius * float(x.amax() - x.amin())
    plain = explain(x)
    with seeded(x.device, seed):
        values: Tensor = sensitivity_max(
            lambda inputs: (explain(inputs[0]),), (x.detach(),),
            perturb_radius=reach, n_perturb_samples=samples, max_examples_per_batch=len(x),
        )  # fmt: skip
    flat = plain.flatten(1)
    return values.double().masked_fill(~flat.isfinite().all(dim=1) | (flat == 0).all(dim=1), math.nan)
