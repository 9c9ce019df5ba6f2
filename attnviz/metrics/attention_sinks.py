"""Attention sinks and high-norm tokens: tokens that receive most attention, or have an unusually large norm.

A sink is a key that most queries attend to, whatever the image. High-norm tokens are what vision transformers without
registers keep global information in; they often lie in plain background.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from attnviz.core.model_state import observing_outputs
from attnviz.core.records import Kind, Site

SINK = 0.3
OUTLIER = 4.0


def sinks(received: Tensor, share: float = SINK) -> Tensor:
    r"""Which keys are sinks of which heads: on the mean they take more than 0.3 of every query's attention.

    .. math:: \frac{1}{N Q} \sum_{n, q} g_{nhqk} > 0.3

    ``received`` is ``(..., K)``, what each key gets from the mean query, as is the result, bool. ``share`` is the
    threshold; with at most 3 keys, uniform attention exceeds it.

    Source: Gu et al., "When attention sink emerges in language models", ICLR 2025, section 3.1.

    >>> import torch
    >>> sinks(torch.tensor([0.5, 0.3, 0.2]))
    tensor([ True, False, False])
    """
    return received > share


def high_norm(norms: Tensor, times: float = OUTLIER) -> Tensor:
    r"""Which tokens have an outlying norm: more than 4 times the median of their image's.

    ``norms`` are ``(N, T)``, as is the result, bool.

    Source: the phenomenon is of Darcet et al., "Vision transformers need registers", ICLR 2024. Where we differ: they
    take a threshold from the histogram of one model; a multiple of the median needs no histogram.

    >>> import torch
    >>> high_norm(torch.tensor([[1.0, 1.0, 9.0]]))
    tensor([[False, False,  True]])
    """
    return norms > times * norms.median(dim=1, keepdim=True).values


def token_norms(output: Any) -> Tensor | None:
    """Norms over features of a block's output: ``(N, T, D)``, ``(N, H, W, D)`` or ``(N, D, H, W)`` to ``(N, T)``.

    ``None`` for anything else. Of four axes, the two equal neighbours are the plane, the last two where all are equal.
    """
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 3:
        tokens: Tensor = output.detach().norm(dim=2)
        return tokens
    if output.ndim != 4:
        return None
    plane_is_last = output.shape[2] == output.shape[3]
    if not plane_is_last and output.shape[1] != output.shape[2]:
        return None
    norms: Tensor = output.detach().norm(dim=1 if plane_is_last else 3)
    return norms.flatten(1)


def blocks_of(model: nn.Module, sites: Iterable[Site]) -> dict[str, str]:
    """Return, for each pairwise site by name, the outermost module around it that contains no other site.

    That is the block, residual connection and all, whose output goes on to the next one.

    Returns:
        Site name -> dotted path. Sites that share a block with others of theirs share the path; a site whose block
        would be the whole model is left out.
    """
    found = [site for site in sites if site.kind is Kind.PAIRWISE]
    paths = {site.module for site in found}
    blocks = {}
    for site in found:
        parts = site.module.split(".")
        for end in range(1, len(parts) + 1):
            path = ".".join(parts[:end])
            if all(other == site.module or not f"{other}.".startswith(f"{path}.") for other in paths):
                blocks[site.name] = path
                break
    return {name: path for name, path in blocks.items() if path}


@contextmanager
def norms_of_blocks(model: nn.Module, blocks: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Keep the token norms of some modules' outputs while the model runs; a later call replaces an earlier one.

    The model is left as it was found, also after an error.
    """
    kept: dict[str, Tensor] = {}

    def keep(path: str, output: Any) -> None:
        norms = token_norms(output)
        if norms is not None:
            kept[path] = norms

    with observing_outputs(model, keep, set(blocks)):
        yield kept
