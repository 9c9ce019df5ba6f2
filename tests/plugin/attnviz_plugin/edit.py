"""An edit of ``g``."""

from torch import Tensor

from attnviz.edits import register_edit


def half(g: Tensor) -> Tensor:
    """Half of ``g``."""
    return g / 2


register_edit(
    "half",
    half,
    title="half of g",
    means="Every entry is halved.",
    not_means="The effect of removing the attention.",
    in_studies=True,
)
