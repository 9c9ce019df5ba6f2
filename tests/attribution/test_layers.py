"""Which layer a class activation map reads, and how its output lies on the image plane."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnviz.attribution import FeatureLayout, Layer, Logits, attribute, find_layer
from attnviz.attribution.feature_layout import feature_layout
from attnviz.errors import AttributionError
from attnviz.tracing.output_positions import OutputPositions


class Arranged(nn.Module):
    """Features of 4 × 8 patches of 8 × 8 pixels, arranged by a function."""

    def __init__(self, arrange: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.embed, self.arrange = nn.Conv2d(3, 5, 8, 8), arrange

    def forward(self, x: Tensor) -> Tensor:
        return self.arrange(self.embed(x))


def _tokens(features: Tensor) -> Tensor:
    return features.flatten(2).mT


def _with_others(before: int, after: int) -> Callable[[Tensor], Tensor]:
    def arrange(features: Tensor) -> Tensor:
        others = [torch.ones(len(features), count, 5) for count in (before, after)]
        return torch.cat([others[0], _tokens(features), others[1]], 1)

    return arrange


def _best(features: Tensor) -> Tensor:
    tokens = _tokens(features)
    return tokens.gather(1, tokens.sum(-1).topk(8, 1).indices[..., None].expand(-1, -1, 5))


@pytest.mark.parametrize(
    ("arrange", "wanted"),
    [
        (lambda f: f * 2, FeatureLayout("NCHW", (4, 8))),
        (lambda f: f.movedim(1, -1), FeatureLayout("NHWC", (4, 8))),
        (_tokens, FeatureLayout("NLC", (4, 8))),
        (lambda f: f.flatten(2), FeatureLayout("NCL", (4, 8))),
        (_with_others(1, 0), FeatureLayout("NLC", (4, 8), 1)),
        (_with_others(2, 3), FeatureLayout("NLC", (4, 8), 2)),
        (lambda f: _tokens(f[:, :, ::2, ::2]), FeatureLayout("NLC", (2, 4))),
        (lambda f: f.mT.flatten(2).mT, None),  # column by column
        (_best, None),
        (lambda f: _tokens(f)[:, torch.randperm(32)], None),
        (lambda f: f.mean((2, 3), keepdim=True), None),
        (lambda f: _tokens(f).mean(1), None),
    ],
)
def test_a_layout_is_that_of_the_positions(arrange: Callable[[Tensor], Tensor], wanted: FeatureLayout | None) -> None:
    model, x = Arranged(arrange).eval(), torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        shape = model(x).shape
    assert feature_layout("", shape, OutputPositions(model, x)) == wanted


class Pooled(nn.Module):
    """Learned queries pool tokens; their tokens have no positions."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features, self.norm, self.fc = features, nn.LayerNorm(5), nn.Linear(5, 3)
        self.queries = nn.Parameter(torch.randn(1, 2, 5))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.features(x)
        return self.fc(self.norm((self.queries @ tokens.mT).softmax(-1) @ tokens)).mean(1)


def test_class_tokens_after_the_last_features_are_no_features() -> None:
    torch.manual_seed(0)
    model = Pooled(Arranged(lambda f: _tokens(f.relu()))).eval()
    assert find_layer(Logits(model), torch.randn(1, 3, 32, 64)).path == "features"


def _embedded(features: Tensor) -> Tensor:
    return nn.functional.layer_norm(_tokens(features) + torch.linspace(0, 1, 32)[:, None], (5,))


def test_an_embedding_of_patches_is_never_the_default() -> None:
    torch.manual_seed(0)
    for arrange in (_tokens, _embedded, _with_others(1, 0)):
        model, x = Pooled(Arranged(arrange)).eval(), torch.randn(1, 3, 32, 64)
        with pytest.raises(AttributionError, match="an embedding of patches before any layer has related them"):
            find_layer(Logits(model), x)
        assert find_layer(Logits(model), x, "features").path == "features"


def test_one_convolution_with_an_activation_is_no_embedding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    assert find_layer(Logits(model.eval()), torch.randn(1, 3, 32, 32)).path == "1"


def test_tokens_become_a_map_row_by_row_and_leave_out_those_before_them() -> None:
    tokens = torch.arange(7.0)[None, :, None].expand(1, 7, 2)
    wanted = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).expand(1, 2, 2, 3)
    assert torch.equal(FeatureLayout("NLC", (2, 3), 1).as_map(tokens), wanted)
    assert torch.equal(FeatureLayout("NCL", (2, 3), 1).as_map(tokens.mT), wanted)
    assert torch.equal(FeatureLayout("NHWC", (2, 3)).as_map(wanted.movedim(1, -1)), wanted)


def _timm(name: str, **options: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=4, **options).eval()


SMALL = {"embed_dim": 24, "num_heads": 3}


@pytest.mark.parametrize(
    ("name", "options", "size", "path", "layout"),
    [
        ("vit_tiny_patch16_224", {"depth": 3, **SMALL, "img_size": 64}, 64, "blocks.1",
         FeatureLayout("NLC", (4, 4), 1)),
        ("deit_tiny_distilled_patch16_224", {"depth": 2, **SMALL, "img_size": 64}, 64, "blocks.0",
         FeatureLayout("NLC", (4, 4), 2)),
        ("vit_base_patch16_siglip_gap_224", {"depth": 2, **SMALL, "img_size": 64}, 64, "norm",
         FeatureLayout("NLC", (4, 4))),
        ("vit_medium_patch16_reg4_gap_256", {"depth": 2, **SMALL, "img_size": 64}, 64, "norm",
         FeatureLayout("NLC", (4, 4), 4)),
        ("mixer_s32_224", {}, 224, "norm", FeatureLayout("NLC", (7, 7))),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 24}, 224, "norm",
         FeatureLayout("NHWC", (7, 7))),
        ("pvt_v2_b0", {}, 64, "stages", FeatureLayout("NCHW", (2, 2))),
        ("convnext_atto", {}, 64, "norm_pre", FeatureLayout("NCHW", (2, 2))),
        ("xcit_nano_12_p16_224", {"depth": 2}, 64, "cls_attn_blocks.0", FeatureLayout("NLC", (4, 4), 1)),
    ],
)  # fmt: skip
def test_the_layer_and_the_layout_of_token_models_are_found(
    name: str, options: dict[str, Any], size: int, path: str, layout: FeatureLayout
) -> None:
    model = _timm(name, **options)
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    found = find_layer(Logits(model), x)
    assert (found.path, found.layout) == (path, layout)


def test_a_map_of_tokens_is_the_papers_formula_on_their_grid() -> None:
    model = _timm("vit_tiny_patch16_224", depth=2, img_size=(64, 96), **SMALL).double()
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kept: list[Tensor] = []
    handle = model.blocks[0].register_forward_hook(lambda _m, _i, out: kept.append(out))
    score = model(x)[:, 3].sum()
    handle.remove()
    (g,) = torch.autograd.grad(score, kept[0])
    a, g = (t[:, 1:].reshape(2, 4, 6, 24).permute(0, 3, 1, 2) for t in (kept[0].detach(), g))
    coarse = torch.stack([sum(g[n, c].mean() * a[n, c] for c in range(24)) for n in range(2)])
    wanted = nn.functional.interpolate(coarse[:, None], (64, 96), mode="bilinear")[:, 0]
    found = attribute(model, x, 3, "gradcam", relu=False)
    torch.testing.assert_close(found.values, wanted)
    assert found.source == "blocks.0"


def test_the_last_block_of_a_class_token_model_is_refused_since_its_positions_are_never_read() -> None:
    model = _timm("vit_tiny_patch16_224", depth=2, img_size=64, **SMALL)
    with pytest.raises(AttributionError, match=r"gradcam: the logits depend on no position of layer 'blocks\.1'"):
        attribute(model, torch.randn(1, 3, 64, 64), 0, "gradcam", layer="blocks.1")


def test_a_layer_that_was_found_before_is_used_without_a_search(stem: nn.Module, images: Tensor) -> None:
    layer = find_layer(Logits(stem), images)
    assert layer == Layer("relu", FeatureLayout("NCHW", (8, 8)), call=1)
    passes: list[int] = []
    again = attribute(stem, images, 1, "gradcam", layer=layer, progress=passes.append)
    assert passes == [3]
    assert torch.equal(again.values, attribute(stem, images, 1, "gradcam").values)


def test_two_branches_that_never_meet_on_the_image_plane_have_no_layer() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x).relu().mean((2, 3)) + self.two(x).relu().mean((2, 3))

    with pytest.raises(AttributionError, match="gradcam: found no layer with positions that"):
        attribute(Two(), torch.randn(1, 3, 8, 8), 0, "gradcam")
