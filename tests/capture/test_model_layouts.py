"""Layouts of third-party models."""

import pytest
import torch
from torch import nn

from attnviz.recording import capture


# Expected layouts of third-party models: windows, heads, grid and prefix of queries, grid of keys.
def vit(**options):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=2, **options)


def timm_model(name, **options):
    import timm

    return timm.create_model(name, num_classes=2, **options)


def torchvision_swin():
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 12, [2, 2], [2, 3], [4, 4], num_classes=2)


def torchvision_maxvit():
    from torchvision.models import MaxVit

    return MaxVit((32, 32), 8, 4, [8, 16], [1, 1], 4, 0.0, num_classes=2)


def torchvision_vit():
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 2, 2, 12, 24, num_classes=2)


ENCODER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 24}
CLIP = {**ENCODER, "image_size": 16, "patch_size": 8, "num_frames": 4}


def hf_model(name, **config):
    import transformers

    class OfPixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            model_class = getattr(transformers, name)
            self.model = model_class(model_class.config_class(**config))

        def forward(self, x):
            return self.model(pixel_values=x)[0]

    return OfPixels()


IMAGE, VIDEO = (2, 3, 32, 32), (2, 4, 3, 16, 16)
MODELS = {
    "timm ViT": (vit, IMAGE, [(1, 3, (1, 4, 4), 1, (1, 4, 4))] * 2),
    "timm ViT with registers": (lambda: vit(reg_tokens=4), IMAGE, [(1, 3, (1, 4, 4), 5, (1, 4, 4))] * 2),
    "timm DeiT": (
        lambda: timm_model("deit_tiny_distilled_patch16_224", img_size=32, embed_dim=24, depth=1),
        IMAGE,
        [(1, 3, (1, 2, 2), 2, (1, 2, 2))],
    ),
    "timm Swin": (
        lambda: timm_model(
            "swin_tiny_patch4_window7_224", img_size=32, embed_dim=12, depths=(2, 2), num_heads=(2, 3), window_size=4
        ),
        IMAGE,
        [(4, 2, (1, 8, 8), 0, (1, 8, 8))] * 2 + [(1, 3, (1, 4, 4), 0, (1, 4, 4))] * 2,
    ),
    "timm PVTv2": (
        lambda: timm_model("pvt_v2_b0", depths=(1, 1, 1, 1)),
        IMAGE,
        [(1, h, (1, n, n), 0, (1, 1, 1)) for h, n in ((1, 8), (2, 4), (5, 2), (8, 1))],
    ),
    "torchvision ViT": (torchvision_vit, IMAGE, [(1, 2, (1, 4, 4), 1, (1, 4, 4))] * 2),
    "torchvision Swin": (
        torchvision_swin,
        IMAGE,
        [(4, 2, (1, 8, 8), 0, (1, 8, 8))] * 2 + [(1, 3, (1, 4, 4), 0, (1, 4, 4))] * 2,
    ),
    "torchvision MaxViT": (
        torchvision_maxvit,
        IMAGE,
        [(4, 2, (1, 8, 8), 0, (1, 8, 8))] * 2 + [(1, 4, (1, 4, 4), 0, (1, 4, 4))] * 2,
    ),
    "transformers ViT": (
        lambda: hf_model("ViTModel", **ENCODER, image_size=32, patch_size=8),
        IMAGE,
        [(1, 3, (1, 4, 4), 1, (1, 4, 4))] * 2,
    ),
    "transformers Swin": (
        lambda: hf_model("SwinModel", image_size=32, embed_dim=12, depths=[2], num_heads=[2], window_size=4),
        IMAGE,
        [(4, 2, (1, 8, 8), 0, (1, 8, 8))] * 2,
    ),
    "transformers DINOv2 with registers": (
        lambda: hf_model("Dinov2WithRegistersModel", **ENCODER, image_size=32, patch_size=8, num_register_tokens=4),
        IMAGE,
        [(1, 3, (1, 4, 4), 5, (1, 4, 4))] * 2,
    ),
    "transformers VideoMAE": (
        lambda: hf_model("VideoMAEModel", **CLIP, tubelet_size=2),
        VIDEO,
        [(1, 3, (2, 2, 2), 0, (2, 2, 2))] * 2,
    ),
    "transformers TimeSformer": (
        lambda: hf_model("TimesformerModel", **CLIP),
        VIDEO,
        [(4, 3, (4, 2, 2), 0, (4, 2, 2)), (4, 3, (4, 2, 2), 1, (4, 2, 2))] * 2,
    ),
}


REACH = {"torchvision MaxViT": 1}  # convolutions before the attention spread a change to neighbouring positions


@pytest.mark.filterwarnings("ignore")  # deprecation warnings inside the libraries
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_layouts_of_third_party_models_are_as_expected(name):
    torch.manual_seed(0)
    build, shape, expected = MODELS[name]
    model, x = build().eval(), torch.randn(shape)
    with capture(model) as captured:
        model(x)
    records = captured["pairwise"]
    layouts = [record.site.layout for record in records]
    assert [(o.windows, o.heads, o.queries.grid, o.queries.prefix, o.keys.grid) for o in layouts] == expected
    for record, layout in zip(records, layouts, strict=True):
        positions = layout.queries.positions
        assert layout.split(record.g).shape == (2, len(positions), layout.heads, *record.g.shape[2:])
        counts = torch.bincount(positions[positions >= 0], minlength=layout.queries.size)
        assert counts.eq(1).all() or name.endswith("TimeSformer")
    check_positions(model, x, layouts[0], shape[-1], REACH.get(name, 0))


def check_positions(model, x, layout, side, reach=0):
    """Change the pixels of one grid cell: the value of the key at this position, or within reach, must change most."""
    frames, rows, columns = layout.keys.grid
    size, centre = side // rows, side // rows // 2
    for position in range(0, layout.keys.size, max(1, layout.keys.size // 5)):
        t, y, c = position // (rows * columns), position // columns % rows, position % columns
        other = x.clone()
        area = (
            slice(y * size + centre - 1, y * size + centre + 1),
            slice(c * size + centre - 1, c * size + centre + 1),
        )
        step = x.shape[1] // frames if x.ndim == 5 else 1
        other[(1, slice(t * step, (t + 1) * step), slice(None), *area) if x.ndim == 5 else (1, slice(None), *area)] += 9
        values = []
        for clip in (x, other):
            with capture(model) as captured:
                model(clip)
            value = captured["pairwise"][0].x
            values.append(value.reshape(2, layout.windows, layout.heads, *value.shape[-2:]))
        change = (values[1] - values[0])[1].abs().sum((1, -1))  # (windows, keys)
        found = int(layout.keys.positions.flatten()[change.flatten().argmax()])
        (row, column), (found_row, found_column) = divmod(position, columns), divmod(found, columns)
        assert max(abs(found_row - row), abs(found_column - column)) <= reach
