"""Nothing is silent: what looks like attention and was not captured is told."""

import networks
import torch
from torch import nn

from attnviz.recording import capture
from attnviz.tracing import find_attention


class BlockAttention(nn.Module):
    """Softmax weights on values with six axes: a form that no recogniser knows."""

    def forward(self, x):
        weights = torch.softmax(x.mean((2, 3)), dim=1)
        blocks = x.unflatten(2, (2, 3)).unflatten(4, (2, 3))
        return x + (weights[..., None, None, None, None] * blocks).flatten(4, 5).flatten(2, 3)


def test_an_unknown_use_of_softmax_weights_is_reported_with_its_place():
    sites = find_attention(nn.Sequential(BlockAttention()), networks.images())
    assert list(sites) == []
    (unclaimed,) = sites.unclaimed
    assert (unclaimed.operation, unclaimed.module) == ("mul", "0")
    assert "test_witness.py:" in unclaimed.source
    assert str(unclaimed).startswith("mul in 0 (")
    assert str(unclaimed).endswith("weights from a softmax are multiplied with another value of the input")


def test_a_capture_tells_what_it_did_not_hear():
    model = nn.Sequential(networks.build("cbam"), BlockAttention())
    sites = find_attention(model, networks.images())
    with capture(model, sites) as captured:
        assert [u.why for u in captured.unclaimed][1:] == ["a site not heard yet"] * 2
        model(networks.images())
    assert [u.module for u in captured.unclaimed] == ["1"]


def test_the_witness_is_silent_about_gates_that_were_found_and_about_plain_blocks():
    for name in [*networks.GATED, *networks.PLAIN]:
        assert find_attention(networks.build(name), networks.images()).unclaimed == ()


def test_a_softmax_over_classes_is_not_attention():
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 36, 5), nn.Softmax(dim=1))
    assert find_attention(head, networks.images()).unclaimed == ()
