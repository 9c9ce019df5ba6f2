"""Find every site of a model, by running it once and looking at its operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from torch import nn

from attnviz.capture.ears import hushed
from attnviz.capture.graph import Graph, Node, Tracer
from attnviz.capture.recognise import RECOGNISERS, Finding
from attnviz.capture.witness import Unclaimed, unclaimed_of
from attnviz.capture.wrap import as_inference, check_visible, visibly
from attnviz.errors import CaptureError
from attnviz.records import Site


def check_module(model: object) -> None:
    """Refuse anything but a module, before an attribute of it is missed.

    Raises:
        CaptureError: it is none; says where an object that holds one keeps it.
    """
    if not isinstance(model, nn.Module):
        held = isinstance(getattr(model, "module", None), nn.Module)
        raise CaptureError(
            f"wanted an nn.Module, got a {type(model).__name__}" + ("; pass its .module" if held else "")
        )


def trace(model: nn.Module, *inputs: Any, **kwargs: Any) -> Graph:
    """Run ``model`` once, in eval mode and without gradients, and return what it did.

    Raises:
        CaptureError: the model holds parts whose operations cannot be seen.
    """
    check_module(model)
    check_visible(model)
    tracer = Tracer()
    with ExitStack() as undo:
        undo.enter_context(hushed())
        undo.enter_context(as_inference(model))
        undo.enter_context(visibly(model))
        tracer.follow(model, undo)
        tracer.enter_inputs((inputs, kwargs))
        undo.enter_context(tracer)
        model(*inputs, **kwargs)
    return tracer.graph


class Sites(list[Site]):
    """The sites of a model, in the order of the forward pass.

    Attributes:
        unclaimed: The witness's list: operations that look like attention and are no site.
    """

    def __init__(self, sites: Iterable[Site] = (), unclaimed: Iterable[Unclaimed] = ()) -> None:
        super().__init__(sites)
        self.unclaimed = tuple(unclaimed)

    @classmethod
    def of(cls, sites: Iterable[Site]) -> Sites:
        """``sites`` with the witness's list, where they have one."""
        return sites if isinstance(sites, Sites) else cls(sites)


def find_attention(model: nn.Module, *inputs: Any, **kwargs: Any) -> Sites:
    """Every place in ``model`` where attention is applied, in the order of the forward pass.

    The model is run once on ``inputs``, in eval mode and without gradients; it is left as it was found. Sites hold for
    every input with the same control flow: find them once and pass them to :func:`capture` for all batches.

    Args:
        model: Any PyTorch model.
        inputs: What its forward takes; for a vision model a batch ``(N, C, H, W)``.
        kwargs: Named inputs.

    Returns:
        The sites, with the witness's list as ``.unclaimed``; both are empty for a model without attention.

    Raises:
        CaptureError: the model holds parts whose operations cannot be seen, such as scripted modules.
    """
    return sites_of(trace(model, *inputs, **kwargs))


def sites_of(graph: Graph) -> Sites:
    """The sites of a forward pass that was traced."""
    recognisers = [RECOGNISERS[name] for name in RECOGNISERS]
    ordinals: Counter[str] = Counter()
    sites: dict[tuple[str, str, int], Site] = {}
    for node in graph.nodes:
        key = (node.module, node.name, node.position)
        if not node.depends or key in sites:
            continue
        finding = next((f for f in (recognise(graph, node) for recognise in recognisers) if f), None)
        if finding is not None:
            sites[key] = _site(graph, node, finding, ordinals[node.module])
            ordinals[node.module] += 1
    return Sites(sites.values(), unclaimed_of(graph, sites.values()))


def _site(graph: Graph, node: Node, finding: Finding, ordinal: int) -> Site:
    moments = {"g": (finding.g, node.index), "x": (finding.x, node.index), "y": (node, node.index + 1)}
    return Site(
        module=node.module,
        ordinal=ordinal,
        kind=finding.kind,
        operation=node.name,
        position=node.position,
        use=finding.use,
        type_name=graph.type_names.get(node.module, ""),
        source=node.source,
        squash=finding.squash,
        overwritten=frozenset(name for name, (n, moment) in moments.items() if graph.overwritten_after(n, moment)),
    )
