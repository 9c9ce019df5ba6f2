"""Find every site of a model from the operations of one forward pass."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import MethodType
from typing import Any

from torch import nn

from attnviz._compat import without_dispatch_modes
from attnviz.core.memory_budget import KEEPS, Keep
from attnviz.core.model_state import as_inference, kept_buffers
from attnviz.core.records import Kind, Site
from attnviz.core.token_layout import Layout
from attnviz.core.uses import NeedsOperands
from attnviz.errors import CaptureError
from attnviz.instrumentation.autograd_functions import intercepted_functions
from attnviz.instrumentation.dispatch import disabled
from attnviz.instrumentation.functional_patches import intercept, patched
from attnviz.instrumentation.module_hooks import CHANGING
from attnviz.instrumentation.traceable import traceable
from attnviz.tracing.coverage import unclaimed_of
from attnviz.tracing.detectors.linear_attention import LinearAttention
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.plain_run import copied, difference, warn_if_different
from attnviz.tracing.site_layouts import site_layout
from attnviz.tracing.sites import Sites
from attnviz.tracing.token_positions import PositionTracker
from attnviz.tracing.tracer import Tracer

_WITH_POSITIONS = {Kind.PAIRWISE, Kind.POOLING, Kind.CHANNEL, Kind.SPATIAL, Kind.DENSE}
_STATISTICS = 8  # upper bound of the numbers per query or key in a summary


def check_module(model: object) -> nn.Module:
    """Check that ``model`` is a module, and return it.

    Raises:
        CaptureError: it is not; names the attribute ``.module`` if that is one.
    """
    if isinstance(model, MethodType) and isinstance(model.__self__, nn.Module):
        raise CaptureError(
            f"wanted an nn.Module, got its method {model.__name__}: pass the module, and the sites that "
            f"find_attention(model.{model.__name__}, ...) finds"
        )
    if not isinstance(model, nn.Module):
        has_module = isinstance(getattr(model, "module", None), nn.Module)
        raise CaptureError(
            f"wanted an nn.Module, got a {type(model).__name__}" + ("; pass its .module" if has_module else "")
        )
    return model


def trace(model: nn.Module | MethodType, *inputs: Any, **kwargs: Any) -> Graph:
    """Run ``model``, or a method of it, once, in eval mode and without gradients; return the graph of its operations.

    Raises:
        CaptureError: the model has parts whose operations cannot be traced.
    """
    return _traced(model, inputs, kwargs)[0]


def _traced(model: nn.Module | MethodType, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Graph, Any]:
    """The graph of a run, and its output."""
    module = _module_of(model)
    tracer = Tracer(is_method=module is not model)
    with ExitStack() as undo:
        undo.enter_context(CHANGING)
        undo.enter_context(disabled())
        undo.enter_context(kept_buffers(module))
        undo.enter_context(as_inference(module))
        undo.enter_context(traceable(module))
        tracer.follow(module, undo)
        inputs, kwargs = copied((inputs, kwargs))
        tracer.enter_inputs((inputs, kwargs))
        undo.enter_context(intercept(tracer.intercept))
        undo.enter_context(patched())
        undo.enter_context(intercepted_functions(tracer.apply))
        undo.enter_context(tracer.hidden_operations)
        undo.enter_context(tracer)
        output = model(*inputs, **kwargs)
    return tracer.graph, output


def _module_of(model: nn.Module | MethodType) -> nn.Module:
    """The module of a model, or of a method of it.

    Raises:
        CaptureError: it is neither.
    """
    if isinstance(model, MethodType) and isinstance(model.__self__, nn.Module):
        return model.__self__
    return check_module(model)


def find_attention(model: nn.Module | MethodType, *inputs: Any, **kwargs: Any) -> Sites:
    """Find every attention site of ``model``.

    The model runs twice on copies of ``inputs``, in eval mode and without gradients: once as it is and once traced. Its
    state is restored, and the outputs are compared. Sites are valid for every input with the same control flow, also of
    another size: find them once and pass them to :func:`capture` for all batches.

    Args:
        model: Any PyTorch model, or a method of it that is called instead of ``forward``, such as
            ``model.encode_image`` or ``model.generate``.
        inputs: Positional inputs; for a vision model a batch ``(N, C, H, W)``.
        kwargs: Keyword inputs.

    Returns:
        The sites, in the order of the forward pass; ``.unclaimed`` lists operations that look like attention and are
        no site. Both are empty for a model without attention. ``.difference`` is that of the two outputs; a warning is
        given if it is more than rounding.

    Raises:
        CaptureError: the model has parts whose operations cannot be traced, such as scripted modules.
    """
    module = _module_of(model)
    with disabled(), kept_buffers(module), as_inference(module):
        values, named = copied((inputs, kwargs))
        plain = model(*values, **named)
    graph, traced = _traced(model, inputs, kwargs)
    sites = sites_of(graph)
    sites.difference = difference(plain, traced)
    warn_if_different(sites.difference)
    return sites


def sites_of(graph: Graph) -> Sites:
    """The sites of a traced forward pass.

    Recognisers of other packages are tried first, then those of attnviz, each in the alphabetical order of their names;
    the first finding is taken.
    """
    recognisers = sorted(
        (RECOGNISERS[name] for name in RECOGNISERS), key=lambda one: one.__module__.startswith("attnviz.")
    )
    ordinals: Counter[str] = Counter()
    sites: dict[tuple[str, str, int], Site] = {}
    calls: defaultdict[tuple[str, str, int], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.is_visible:
            calls[node.module, node.name, node.position].append(node)
    found: defaultdict[tuple[str, str, int], list[tuple[Node, Finding]]] = defaultdict(list)
    hidden: list[Node] = []
    for node in graph.nodes:
        if not node.depends:
            continue
        finding = next((f for f in (recognise(graph, node) for recognise in recognisers) if f), None)
        if finding is None:
            continue
        key = (node.module, node.name, node.position)
        if not node.is_visible:
            hidden.append(node)
        elif key not in sites:
            sites[key] = _site(graph, node, finding, ordinals[node.module], calls[key])
            ordinals[node.module] += 1
        if node.is_visible and finding.kind is sites[key].kind:
            found[key].append((node, finding))
    complete = [
        replace(site, layouts=layouts)
        for site, layouts in zip(sites.values(), _layouts(graph, calls, found), strict=True)
    ]
    findings = [pair for of_site in found.values() for pair in of_site]
    return Sites(complete, unclaimed_of(graph, findings, hidden), graph.images)


def _layouts(
    graph: Graph,
    calls: Mapping[tuple[str, str, int], list[Node]],
    found: Mapping[tuple[str, str, int], list[tuple[Node, Finding]]],
) -> list[tuple[Layout | None, ...]]:
    """The layouts of each site, one per call; positions are not tracked for a model without maps of them."""
    # Position codes are real tensors even if the model runs on fake ones.
    with disabled(), without_dispatch_modes():
        has_tokens = any(finding.kind in _WITH_POSITIONS for of_site in found.values() for _, finding in of_site)
        tracker = PositionTracker(graph) if has_tokens else None
        layouts = []
        for key, of_site in found.items():
            findings = {id(node): finding for node, finding in of_site}
            each = (
                site_layout(tracker, node, findings[id(node)], graph.images)
                if tracker and id(node) in findings
                else None
                for node in calls[key]
            )
            layouts.append(tuple(each) if of_site[0][1].kind in _WITH_POSITIONS else ())
        return layouts


def _site(graph: Graph, node: Node, finding: Finding, ordinal: int, same: list[Node]) -> Site:
    """The site of a node; ``same`` are the nodes of this operation in all calls of the module."""
    calls = len(same)
    # A later call of the module can take another path, for example with cached keys.
    after = node.starts_after if all(other.starts_after == node.starts_after for other in same) else None
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
        implied=finding.implied,
        overwritten=overwritten_by(graph, node, finding),
        starts_after=None if isinstance(finding.use, NeedsOperands) else after,
        patchable=all(other.patchable for other in same) and node.module not in graph.unpatchable,
        size_bytes={keep: calls * size for keep, size in sizes_of(node, finding).items()},
    )


def overwritten_by(graph: Graph, node: Node, finding: Finding) -> frozenset[str]:
    """Those of ``g``, ``x`` and ``y`` that the model overwrites in place after the operation."""
    operands = {"g": (finding.g, *finding.hidden), "x": (finding.x,)}
    names = {name for name, nodes in operands.items() if any(graph.overwritten_after(n, node.index) for n in nodes)}
    return frozenset(names | ({"y"} if graph.overwritten_after(node, node.index + 1) else set()))


def sizes_of(node: Node, finding: Finding) -> dict[Keep, int]:
    """Memory of a record in bytes, by what is kept of the map.

    This is an upper estimate: memory that is shared with other tensors is counted in full.
    """
    g, x, y = (_bytes(n) for n in (finding.g, finding.x, node))
    if finding.kind is Kind.SAMPLING:
        g = 2 * g  # points are stored in the next wider floating-point type
    sizes: dict[Keep, int] = dict.fromkeys(KEEPS, g + x + y)
    if finding.kind is Kind.PAIRWISE:
        *lead, queries, keys = finding.g.shape
        if finding.implied:
            queries, keys = (
                (finding.g.shape[-1], finding.x.shape[-1]) if _is_last(finding) else (queries, finding.x.shape[-2])
            )
            sizes["full"] = sizes["rows"] = math.prod(lead) * queries * keys * finding.g.itemsize + x + y
        elif finding.hidden:
            keys = finding.hidden[0].shape[-2]
            sizes["rows"] += sum(map(_bytes, finding.hidden))
            sizes["full"] = math.prod(lead) * queries * keys * finding.g.itemsize + x + y
        sizes["summary"] = _STATISTICS * math.prod(lead) * max(queries, keys) * finding.g.itemsize
    return sizes


def _is_last(finding: Finding) -> bool:
    return isinstance(finding.use, LinearAttention) and finding.use.last


def _bytes(node: Node) -> int:
    return math.prod(node.shape) * node.itemsize
