"""A record knows where its tokens come from: windows, class and register tokens, coarser keys, frames."""

import networks
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attnviz.core.token_layout import NO_POSITION, PADDING
from attnviz.recording import capture
from attnviz.tracing import find_attention


def attend(tokens: torch.Tensor, others: torch.Tensor | None = None) -> torch.Tensor:
    """Self- or cross-attention with one head over ``(N, L, C)``, the model's own operations."""
    keys = tokens if others is None else others
    return (tokens @ keys.mT).softmax(-1) @ keys


class Network(nn.Module):
    """A function with a parameter."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.token = nn.Parameter(torch.randn(1, 1, networks.C))
        self.reduce = nn.Conv2d(networks.C, networks.C, 2, 2)
        self.embed = nn.Linear(4 * networks.C, networks.C)

    def forward(self, x):
        return self.function(self, x)


def layout_of(function, x=None):
    (site,) = find_attention(Network(function), networks.images() if x is None else x)
    return site.layout


def tokens(x):
    return x.flatten(2).mT


def test_tokens_of_a_plane_stand_in_its_order():
    layout = layout_of(lambda m, x: attend(tokens(x)))
    assert (layout.windows, layout.heads) == (1, 1)
    assert layout.queries.grid == layout.keys.grid == (1, 6, 6)
    assert layout.queries.is_whole
    assert layout.keys.is_whole


def test_class_tokens_stand_nowhere_before_or_behind():
    def first(m, x):
        return attend(torch.cat([m.token.expand(len(x), -1, -1), tokens(x)], 1))

    def last(m, x):
        return attend(torch.cat([tokens(x) + 1, m.token.expand(len(x), -1, -1)], 1))

    assert (layout_of(first).queries.prefix, layout_of(first).queries.is_whole) == (1, True)
    places = layout_of(last).keys.places
    assert places.tolist() == [[*range(36), NO_POSITION]]
    assert layout_of(last).keys.prefix == 0


def test_a_mean_over_the_image_stands_nowhere():
    layout = layout_of(lambda m, x: attend(torch.cat([tokens(x).mean(1, keepdim=True), tokens(x)], 1)))
    assert (layout.keys.prefix, layout.keys.is_whole) == (1, True)


def test_keys_that_were_reduced_stand_on_a_coarser_grid():
    layout = layout_of(lambda m, x: attend(tokens(x), tokens(m.reduce(x))))
    assert (layout.queries.grid, layout.keys.grid) == ((1, 6, 6), (1, 3, 3))
    assert layout.keys.is_whole


def test_every_second_position_and_merged_patches_are_a_coarser_grid():
    layout = layout_of(lambda m, x: attend(tokens(x[:, :, ::2, ::2]), tokens(x)))
    assert (layout.queries.grid, layout.keys.grid) == ((1, 3, 3), (1, 6, 6))

    def merged(m, x):
        x = x.permute(0, 2, 3, 1)
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return attend(m.embed(torch.cat(parts, -1)).flatten(1, 2))

    assert layout_of(merged).queries.grid == (1, 3, 3)
    assert layout_of(merged).queries.is_whole


def shifted(m, x, shift=1, side=3):
    x = x.permute(0, 2, 3, 1).roll((-shift, -shift), (1, 2))
    n, h, w, c = x.shape
    windows = x.view(n, h // side, side, w // side, side, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, side**2, c)
    return attend(windows)


def test_shifted_windows_are_told_place_by_place():
    layout = layout_of(shifted)
    assert (layout.windows, layout.heads, layout.queries.grid) == (4, 1, (1, 6, 6))
    assert layout.queries.places[0].tolist() == [7, 8, 9, 13, 14, 15, 19, 20, 21]
    assert layout.queries.places[3].tolist() == [28, 29, 24, 34, 35, 30, 4, 5, 0]
    values = layout.queries.places.float()[None]
    assert torch.equal(layout.queries.lay(values).flatten(), torch.arange(36.0))


def test_padding_of_windows_is_told_from_class_tokens():
    def padded(m, x):
        return shifted(m, F.pad(x[..., :5], (0, 1)), shift=0)

    places = layout_of(padded).keys.places
    assert places.shape == (4, 9)
    assert places[1].tolist() == [3, 4, PADDING, 9, 10, PADDING, 15, 16, PADDING]


def test_heads_before_windows_come_apart_too():
    def blocks(m, x):
        x = x.view(len(x), 2, 4, 2, 3, 6).permute(0, 1, 3, 4, 5, 2).reshape(len(x), 2, 2, 18, 4)  # n heads windows q d
        return (x @ x.mT).softmax(-1) @ x

    layout = layout_of(blocks)
    assert (layout.windows, layout.heads, layout.order) == (2, 2, ("images", "heads", "windows"))
    model = Network(blocks)
    with capture(model) as captured:
        model(x := networks.images())
    (record,) = captured.records
    apart = layout.split(record.g)
    assert apart.shape == (2, 2, 2, 18, 18)
    lower = x[1, 4:, 3:].flatten(1).mT  # image 1, the second head, the second window
    assert torch.allclose(apart[1, 1, 1], (lower @ lower.mT).softmax(-1), atol=1e-6)


def test_attention_along_frames_has_a_window_for_each_position():
    def along(m, x):
        return attend(x.permute(0, 3, 4, 1, 2).reshape(-1, x.shape[1], x.shape[2]))

    layout = layout_of(along, torch.randn(2, 4, 3, 2, 5))
    assert (layout.windows, layout.queries.grid) == (10, (4, 2, 5))
    assert layout.queries.places[3].tolist() == [3, 13, 23, 33]


def test_attention_inside_frames_has_a_window_for_each_frame():
    layout = layout_of(lambda m, x: attend(tokens(x.flatten(0, 1))), torch.randn(2, 4, 3, 2, 5))
    assert (layout.windows, layout.queries.grid) == (4, (4, 2, 5))
    assert layout.queries.places[1].tolist() == list(range(10, 20))


def test_channels_and_tokens_in_an_order_that_is_not_known_have_no_places():
    layout = layout_of(lambda m, x: attend(x.flatten(2)))
    assert (layout.windows, layout.heads, layout.queries, layout.keys) == (1, 1, None, None)
    for function in (
        lambda m, x: attend(tokens(x).sort(1).values),
        lambda m, x: attend(torch.cat([tokens(x), tokens(m.reduce(x))], 1)),  # two scales
        lambda m, x: attend(tokens(x)[:, torch.randperm(36)]),  # another order the next time
    ):
        assert layout_of(function) is None
    fixed = layout_of(lambda m, x: attend(tokens(x)[:, torch.arange(35, -1, -1)]))
    assert fixed.queries.places.tolist() == [[*range(35, -1, -1)]]


# What third-party models say of themselves: windows, heads, grid and prefix of queries, grid of keys.
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


def hugging(name, **config):
    import transformers

    class OfPixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            made = getattr(transformers, name)
            self.model = made(made.config_class(**config))

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
        lambda: hugging("ViTModel", **ENCODER, image_size=32, patch_size=8),
        IMAGE,
        [(1, 3, (1, 4, 4), 1, (1, 4, 4))] * 2,
    ),
    "transformers Swin": (
        lambda: hugging("SwinModel", image_size=32, embed_dim=12, depths=[2], num_heads=[2], window_size=4),
        IMAGE,
        [(4, 2, (1, 8, 8), 0, (1, 8, 8))] * 2,
    ),
    "transformers DINOv2 with registers": (
        lambda: hugging("Dinov2WithRegistersModel", **ENCODER, image_size=32, patch_size=8, num_register_tokens=4),
        IMAGE,
        [(1, 3, (1, 4, 4), 5, (1, 4, 4))] * 2,
    ),
    "transformers VideoMAE": (
        lambda: hugging("VideoMAEModel", **CLIP, tubelet_size=2),
        VIDEO,
        [(1, 3, (2, 2, 2), 0, (2, 2, 2))] * 2,
    ),
    "transformers TimeSformer": (
        lambda: hugging("TimesformerModel", **CLIP),
        VIDEO,
        [(4, 3, (4, 2, 2), 0, (4, 2, 2)), (4, 3, (4, 2, 2), 1, (4, 2, 2))] * 2,
    ),
}
pairwise = pytest.mark.filterwarnings("ignore")  # the libraries warn about their own affairs


@pairwise
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_layouts_of_third_party_models_are_right(name):
    torch.manual_seed(0)
    build, shape, expected = MODELS[name]
    model, x = build().eval(), torch.randn(shape)
    with capture(model) as captured:
        model(x)
    records = captured["pairwise"]
    layouts = [record.site.layout for record in records]
    assert [(o.windows, o.heads, o.queries.grid, o.queries.prefix, o.keys.grid) for o in layouts] == expected
    for record, layout in zip(records, layouts, strict=True):
        apart = layout.split(record.g)
        assert apart.shape == (2, *layout.queries.places.shape[:1], layout.heads, *record.g.shape[2:])
        counts = torch.bincount(layout.queries.places[layout.queries.places >= 0], minlength=layout.queries.size)
        assert counts.eq(1).all() or name.endswith("TimeSformer")
    changed_where_they_say(model, x, layouts[0], shape[-1])


def changed_where_they_say(model, x, layout, side):
    """Changing the pixels of one cell changes the values of the keys that stand there most, of all in the image."""
    frames, rows, columns = layout.keys.grid
    size, centre = side // rows, side // rows // 2
    for place in range(0, layout.keys.size, max(1, layout.keys.size // 5)):
        t, y, c = place // (rows * columns), place // columns % rows, place % columns
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
        assert layout.keys.places.flatten()[change.flatten().argmax()] == place
