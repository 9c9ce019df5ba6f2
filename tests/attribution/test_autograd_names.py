"""Names of autograd nodes that the rules depend on: a new or renamed one in a release of PyTorch is listed here."""

import torch
from torch import nn
from torch.nn.modules import activation

from attnviz.attribution.captum_wrappers import OTHER_ACTIVATIONS, RECTIFIERS

GATES_AND_SUMS = {  # bounded, normalising or composed of other operations: no activation to which the rule applies
    "DivBackward0", "GluBackward0", "HardsigmoidBackward0", "LogSigmoidBackward0", "LogSoftmaxBackward0",
    "SigmoidBackward0", "SoftmaxBackward0", "SubBackward0", "TanhBackward0",
}  # fmt: skip
WITH_ARGUMENTS = {
    "LogSoftmax": (1,), "MultiheadAttention": None, "Softmax": (1,), "Softmax2d": None, "Softmin": (1,),
    "Threshold": (0.0, 0.0),
}  # fmt: skip


def activations() -> dict[str, str]:
    """Name of each activation module of this release -> name of its autograd node."""
    names = {}
    for name in activation.__all__:
        arguments = WITH_ARGUMENTS.get(name, ())
        if arguments is not None:
            x = torch.randn(2, 4, requires_grad=True)
            names[name] = getattr(nn, name)(*arguments)(x).grad_fn.name()
    return names


def test_every_activation_of_this_release_is_classified() -> None:
    known = RECTIFIERS | OTHER_ACTIVATIONS | GATES_AND_SUMS
    assert {name: node for name, node in activations().items() if node not in known} == {}


def test_no_classified_name_is_outdated() -> None:
    assert (RECTIFIERS | OTHER_ACTIVATIONS | GATES_AND_SUMS) - set(activations().values()) == set()
