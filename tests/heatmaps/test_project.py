"""Projections: numbers worked by hand on gates made by hand, and gates captured from a model."""

import pytest
import torch
from torch import Tensor, nn

from attnviz.core.records import Kind, Record, Site
from attnviz.errors import CaptureError, UnknownNameError
from attnviz.heatmaps import PROJECTIONS, project, projection
from attnviz.heatmaps.projection import Projection
from attnviz.recording import capture
from attnviz.tracing import Gate

X = torch.tensor([[[[1.0, -2.0], [0.0, 4.0]], [[3.0, 0.0], [0.0, -1.0]]]])
CHANNEL = torch.tensor([[0.5, 2.0]])
SPATIAL = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]])
DENSE = torch.tensor([[[[1.0, -1.0], [0.0, 2.0]], [[3.0, 1.0], [0.0, -2.0]]]])


def record(kind: Kind, g: Tensor, x: Tensor = X, *, channel_axis: int = 1) -> Record:
    gate = Gate(kind, channel_axis, 1)
    return Record(Site("block.att", 0, kind, "mul", 0, gate), 0, g, x, gate(g, x))


@pytest.mark.parametrize(
    ("kind", "g", "method", "wanted"),
    [
        (Kind.SPATIAL, SPATIAL, "gate", [[0.1, 0.2], [0.3, 0.4]]),
        (Kind.SPATIAL, SPATIAL, "spatial-energy", [[0.4, 0.4], [0.0, 2.0]]),
        (Kind.DENSE, DENSE, "dense-mean-abs", [[2.0, 1.0], [0.0, 2.0]]),
        (Kind.DENSE, DENSE, "dense-mean", [[2.0, 0.0], [0.0, 0.0]]),
        (Kind.DENSE, DENSE, "dense-energy", [[10.0, -2.0], [0.0, 6.0]]),
        (Kind.DENSE, DENSE, "dense-deviation", [[3.25**0.5, 1.25**0.5], [0.25**0.5, 4.25**0.5]]),
        (Kind.CHANNEL, CHANNEL, "channel-energy", [[6.5, 1.0], [0.0, 4.0]]),
        (Kind.CHANNEL, CHANNEL, "channel-gain", [[6.5 / 4, 0.5], [1.25, 0.8]]),
    ],
)
def test_a_projection_worked_by_hand(kind: Kind, g: Tensor, method: str, wanted: list[list[float]]) -> None:
    heatmap = project(record(kind, g), method=method)
    torch.testing.assert_close(heatmap.values, torch.tensor([wanted]))
    assert (heatmap.method, heatmap.source, heatmap.kind, heatmap.name) == (
        method,
        "block.att",
        "attention",
        "block.att",
    )


@pytest.mark.parametrize(
    ("kind", "g", "method"),
    [(Kind.SPATIAL, SPATIAL, "gate"), (Kind.DENSE, DENSE, "dense-mean-abs"), (Kind.CHANNEL, CHANNEL, "channel-energy")],
)
def test_each_kind_of_gate_has_its_default(kind: Kind, g: Tensor, method: str) -> None:
    assert project(record(kind, g)).method == method
    defaults = [p.name for p in (PROJECTIONS[n] for n in PROJECTIONS) if p.kind is kind and p.default]
    assert defaults == [method]


@pytest.mark.parametrize(("kind", "g"), [(Kind.SPATIAL, SPATIAL), (Kind.DENSE, DENSE), (Kind.CHANNEL, CHANNEL)])
def test_channels_on_the_last_axis_give_the_same_map(kind: Kind, g: Tensor) -> None:
    last = record(kind, g, X.movedim(1, -1), channel_axis=-1)
    for name in (n for n in PROJECTIONS if PROJECTIONS[n].kind is kind):
        assert torch.equal(project(last, method=name).values, project(record(kind, g), method=name).values)


def test_a_map_is_brought_to_the_image_bilinearly_and_keeps_its_sign() -> None:
    g = torch.tensor([[[-1.0, 1.0]]])
    x = torch.ones(1, 2, 1, 2)
    heatmap = project(record(Kind.SPATIAL, g, x), size=(2, 4))
    row = torch.tensor([-1.0, -0.5, 0.5, 1.0])
    torch.testing.assert_close(heatmap.values, row.expand(1, 2, 4))
    assert project(record(Kind.SPATIAL, g, x)).values.shape == (1, 1, 2)


def test_each_image_of_a_batch_is_projected_alone() -> None:
    x, g = torch.cat([X, X + 1, -X]), torch.rand(3, 2)
    together = project(record(Kind.CHANNEL, g, x), size=(8, 8)).values
    for i in range(3):
        alone = project(record(Kind.CHANNEL, g[i : i + 1], x[i : i + 1]), size=(8, 8)).values
        torch.testing.assert_close(together[i : i + 1], alone)


def test_a_heatmap_holds_no_gradient_and_leaves_the_record_alone() -> None:
    g = SPATIAL.clone().requires_grad_()
    kept = record(Kind.SPATIAL, g)
    heatmap = project(kept, size=(4, 4))
    assert not heatmap.values.requires_grad
    assert kept.g is g
    assert torch.equal(g, SPATIAL)


def test_a_gain_is_free_of_scale_and_is_the_mean_gate_where_nothing_is_active() -> None:
    faint = project(record(Kind.CHANNEL, CHANNEL, X * 1e-30), method="channel-gain").values
    torch.testing.assert_close(faint, project(record(Kind.CHANNEL, CHANNEL), method="channel-gain").values)
    nothing = project(record(Kind.CHANNEL, CHANNEL, torch.zeros(1, 2, 2, 2)), method="channel-gain").values
    torch.testing.assert_close(nothing, torch.full((1, 2, 2), 1.25))


def test_a_gate_on_what_is_no_feature_map_has_no_image_plane() -> None:
    tokens = torch.randn(1, 5, 2)
    with pytest.raises(CaptureError, match=r"block.att: the positions of this gate on the image plane are unknown"):
        project(record(Kind.CHANNEL, CHANNEL, tokens, channel_axis=2))


def test_a_projection_of_another_kind_or_of_none_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="projection of spatial attention 'channel-energy'"):
        project(record(Kind.SPATIAL, SPATIAL), method="channel-energy")
    with pytest.raises(UnknownNameError, match="did you mean dense-mean"):
        project(record(Kind.DENSE, DENSE), method="dense_mean")


def test_a_kind_without_projection_is_refused_and_joins_by_one_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    entries: dict[str, Projection] = dict(PROJECTIONS._entries)
    monkeypatch.setattr(PROJECTIONS, "_entries", {n: p for n, p in entries.items() if p.kind is not Kind.POOLING})
    gate = Gate(Kind.POOLING, 1, 1)
    pooled = Record(Site("pool", 0, Kind.POOLING, "mul", 0, gate), 0, torch.rand(1, 1, 4), X, X)
    with pytest.raises(CaptureError, match="pool: pooling attention has no projection onto the image plane"):
        project(pooled)

    @projection(Kind.POOLING, "weights", title="weights", means="", not_means="", default=True)
    def weights(pooled: Record) -> Tensor:
        """The weights."""
        return pooled.g[:, 0].reshape(1, 2, 2)

    heatmap = project(pooled, size=(4, 4))
    assert (heatmap.method, heatmap.values.shape) == ("weights", (1, 4, 4))


def test_a_captured_gate_is_projected() -> None:
    class SE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(self.fc(x.mean((2, 3))))[:, :, None, None]

    model = nn.Sequential(nn.Conv2d(3, 4, 1), SE())
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad(), capture(model) as captured:
        y = model(x)
    heatmap = project(captured.records[0], size=(12, 12))
    native = project(captured.records[0]).values
    torch.testing.assert_close(native, y.abs().sum(1))
    assert (heatmap.source, heatmap.values.shape) == ("1", (2, 12, 12))


def test_every_projection_has_a_summary_of_one_line() -> None:
    for name in PROJECTIONS:
        assert PROJECTIONS[name].summary.endswith(".")
