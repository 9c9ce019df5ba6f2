"""Each mechanism beyond the gates against a slow implementation of the paper, position by position."""

import math

import pytest
import torch
from model_twins import dense, image, randomised, sigmoid, softmax

from attnviz.models import (
    ECA,
    LKA,
    DeformableConvolution,
    NonLocal,
    PyramidBlock,
    SelectiveKernel,
    SelfAttention,
    SpatialReductionAttention,
    SpatialTransformer,
    TemporalAttention,
    TokenEncoder,
    VANBlock,
)
from attnviz.models.trunk import EfficientNetLite0
from attnviz.models.vit import EncoderLayer


def positions(side):
    return [(row, column) for row in range(side) for column in range(side)]


def pixel(layer, vector):
    """A 1×1 convolution at one position."""
    return [
        float(layer.bias[i]) + sum(float(layer.weight[i, j, 0, 0]) * float(vector[j]) for j in range(len(vector)))
        for i in range(layer.out_channels)
    ]


def window(x, weight, bias, dilation):
    """A depthwise convolution with zero padding, at every position of one channel."""
    side, reach = x.shape[0], weight.shape[0] // 2
    y = torch.full_like(x, float(bias))
    for row, column in positions(side):
        for i in range(weight.shape[0]):
            for j in range(weight.shape[1]):
                r, c = row + (i - reach) * dilation, column + (j - reach) * dilation
                if 0 <= r < side and 0 <= c < side:
                    y[row, column] += weight[i, j] * x[r, c]
    return y


def attend(queries, keys, values, scale):
    """Attention of each query: softmax of the products with all keys, and the weighted sum of the values."""
    y = []
    for query in queries:
        g = softmax([scale * sum(float(a) * float(b) for a, b in zip(query, key, strict=True)) for key in keys])
        y.append([sum(w * float(v[c]) for w, v in zip(g, values, strict=True)) for c in range(len(values[0]))])
    return y


@pytest.mark.parametrize(("channels", "kernel"), [(16, 3), (64, 3), (112, 3), (192, 5), (1280, 5)])
def test_eca_has_the_odd_kernel_width_of_equation_12(channels, kernel):
    assert ECA(channels).conv.kernel_size == (kernel,)


def test_eca_follows_equation_9():
    module, x = randomised(ECA(8)), image(8)
    y = torch.empty_like(x)
    for n in range(len(x)):
        means = [0.0, *(float(x[n, c].mean()) for c in range(8)), 0.0]
        for c in range(8):
            z = float(module.conv.bias) + sum(float(module.conv.weight[0, 0, k]) * means[c + k] for k in range(3))
            y[n, c] = sigmoid(z) * x[n, c]
    torch.testing.assert_close(module(x), y)


def test_the_non_local_block_follows_equations_4_and_6():
    module, x = randomised(NonLocal(4)), image(4, side=3, count=1)
    normal = (x - x.mean()) / torch.sqrt(x.var(correction=0) + module.norm.eps)
    normal = normal * module.norm.weight[:, None, None] + module.norm.bias[:, None, None]
    vectors = [normal[0, :, r, c] for r, c in positions(3)]
    queries, keys, values = ([pixel(layer, v) for v in vectors] for layer in (module.theta, module.phi, module.value))
    y = x.clone()
    for (r, c), attended in zip(positions(3), attend(queries, keys, values, 1.0), strict=True):
        y[0, :, r, c] += torch.tensor(pixel(module.out, attended), dtype=x.dtype)
    torch.testing.assert_close(module(x), y)


def test_large_kernel_attention_is_two_depthwise_windows_and_a_mix():
    module, x = randomised(LKA(3)), image(3, count=1)
    near = torch.stack([window(x[0, c], module.near.weight[c, 0], module.near.bias[c], 1) for c in range(3)])
    far = torch.stack([window(near[c], module.far.weight[c, 0], module.far.bias[c], 3) for c in range(3)])
    y = torch.empty_like(x)
    for r, c in positions(5):
        y[0, :, r, c] = torch.tensor(pixel(module.mix, far[:, r, c]), dtype=x.dtype) * x[0, :, r, c]
    torch.testing.assert_close(module(x), y)


def test_the_van_block_applies_a_network_at_each_position_after_the_attention():
    module, x = randomised(VANBlock(4)), image(4, side=3, count=1)
    norm, first, _, last = module.feed_forward.layers
    attended, y = module.lka(x), torch.empty_like(x)
    for r, c in positions(3):
        v = attended[0, :, r, c]
        normal = (v - v.mean()) / torch.sqrt(v.var(correction=0) + norm.eps) * norm.weight + norm.bias
        hidden = [z * (1 + math.erf(z / math.sqrt(2))) / 2 for z in dense(first, normal)]
        y[0, :, r, c] = v + torch.tensor(dense(last, hidden), dtype=x.dtype)
    torch.testing.assert_close(module(x), y)


def test_the_selective_kernel_follows_equations_1_to_6():
    module, x = randomised(SelectiveKernel(8)), image(8, count=1)
    branches = [
        torch.stack([window(x[0, c], branch.weight[c, 0], 0.0, dilation) for c in range(8)])
        for branch, dilation in zip(module.branches, (1, 2), strict=True)
    ]
    squeezed = (branches[0] + branches[1]).mean((1, 2))
    scores = dense(module.select, [max(0.0, h) for h in dense(module.squeeze, squeezed)])
    y = torch.empty_like(x)
    for c in range(8):
        g = softmax([scores[c], scores[8 + c]])
        y[0, c] = g[0] * branches[0][c] + g[1] * branches[1][c]
    torch.testing.assert_close(module(x), y)


def test_deformable_convolution_interpolates_at_offset_points_with_weights():
    module, x = randomised(DeformableConvolution(4, groups=2)), image(4, side=4, count=1)
    predicted = module.look(x)[0]
    y = x.clone()
    for r, c in positions(4):
        for k in range(9):
            row, column = (
                r + k // 3 - 1 + float(predicted[2 * k, r, c]),
                c + k % 3 - 1 + float(predicted[2 * k + 1, r, c]),
            )
            modulation = 2 * sigmoid(float(predicted[18 + k, r, c]))
            kernel = torch.tensor(
                [[max(0, 1 - abs(i - row)) * max(0, 1 - abs(j - column)) for j in range(4)] for i in range(4)]
            ).double()
            sampled = modulation * (x[0] * kernel).sum((1, 2))
            for out in range(4):
                group = out // 2
                y[0, out, r, c] += (module.weight[out, :, k // 3, k % 3] * sampled[2 * group : 2 * group + 2]).sum()
    torch.testing.assert_close(module(x), y)


def test_self_attention_follows_equations_5_to_8():
    module = randomised(SelfAttention(8, heads=2))
    x = image(8, side=2, count=1).flatten(2).mT
    packed = torch.tensor([dense(module.query_key_value, token) for token in x[0]])
    attended = torch.empty(4, 8, dtype=torch.float64)
    for head in range(2):
        queries, keys, values = (packed[:, 8 * part + 4 * head : 8 * part + 4 * head + 4] for part in range(3))
        attended[:, 4 * head : 4 * head + 4] = torch.tensor(attend(queries, keys, values, 0.5))
    y = torch.tensor([dense(module.out, token) for token in attended], dtype=x.dtype)
    torch.testing.assert_close(module(x)[0], y)


def test_spatial_reduction_attention_has_keys_and_values_of_patches():
    module, x = randomised(SpatialReductionAttention(4, reduction=2, heads=2)), image(4, side=4, count=1)
    coarse = torch.empty(4, 4, dtype=torch.float64)
    for index, (r, c) in enumerate(positions(2)):
        patch = x[0, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
        values = [float((module.reduce.weight[o] * patch).sum() + module.reduce.bias[o]) for o in range(4)]
        mean = sum(values) / 4
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 4 + module.norm.eps)
        coarse[index] = torch.tensor([(v - mean) / deviation for v in values]) * module.norm.weight + module.norm.bias
    queries = torch.tensor([dense(module.query, x[0, :, r, c]) for r, c in positions(4)])
    packed = torch.tensor([dense(module.key_value, token) for token in coarse])
    y = torch.empty_like(x)
    attended = torch.empty(16, 4, dtype=torch.float64)
    for head in range(2):
        channels = slice(2 * head, 2 * head + 2)
        keys, values = packed[:, channels], packed[:, 4 + 2 * head : 6 + 2 * head]
        attended[:, channels] = torch.tensor(attend(queries[:, channels], keys, values, 2**-0.5))
    for index, (r, c) in enumerate(positions(4)):
        y[0, :, r, c] = torch.tensor(dense(module.out, attended[index]))
    torch.testing.assert_close(module(x), y)


def test_temporal_attention_follows_equations_5_to_7():
    module = randomised(TemporalAttention(6))
    x = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    normal = module.norm(x)[0]
    context = dense(module.context, normal.mean(0))
    scores = []
    for frame in normal:
        hidden = [math.tanh(a + b) for a, b in zip(context, dense(module.frame, frame), strict=True)]
        scores.append(dense(module.score, hidden)[0])
    g = softmax(scores)
    torch.testing.assert_close(module(x)[0], sum(w * frame for w, frame in zip(g, x[0], strict=True)))


@pytest.mark.parametrize(
    "make", [LKA, VANBlock, NonLocal, SelectiveKernel, DeformableConvolution, lambda c: PyramidBlock(c, 2)]
)
def test_a_new_module_is_the_identity(make):
    x = image(16, side=6).float()
    torch.testing.assert_close(make(16)(x), x)


def test_a_new_encoder_layer_is_the_identity():
    x = image(16, side=3).float().flatten(2).mT
    torch.testing.assert_close(EncoderLayer(16)(x), x)


def test_new_temporal_attention_is_the_mean():
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(TemporalAttention(16)(x), x.mean(1))


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return EfficientNetLite0().eval()


def test_a_new_encoder_computes_the_trunks_logits(trunk):
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(TokenEncoder(trunk).eval()(x), trunk(x), rtol=1e-4, atol=1e-4)


def test_a_new_window_covers_most_of_the_image_and_is_shifted_to_strong_features(trunk):
    features = 0.1 * torch.rand(1, 192, 7, 7, generator=torch.Generator().manual_seed(0))
    features[0, :, 1, 5] += 30.0
    with torch.no_grad():
        (theta,) = SpatialTransformer(trunk).eval().window(features)
    torch.testing.assert_close(theta[:, :2], (0.3 + 0.75 * torch.sigmoid(torch.tensor(0.9))) * torch.eye(2))
    right, down = theta[:, 2].tolist()
    assert right > 0.05
    assert down < -0.05


def test_a_window_of_the_whole_image_is_not_shifted(trunk):
    module = SpatialTransformer(trunk).eval()
    torch.nn.init.constant_(module.extent.bias, 20.0)
    with torch.no_grad():
        (theta,) = module.window(torch.rand(1, 192, 7, 7))
    assert theta[:, 2].tolist() == [0.0, 0.0]


def test_the_window_is_centred_where_the_scores_are_high(trunk):
    module = SpatialTransformer(trunk).eval()
    torch.nn.init.zeros_(module.look[0].weight)
    torch.nn.init.zeros_(module.look[0].bias)
    module.look[0].weight.data[0, 0, 1, 1] = 1.0  # passes the first channel on
    torch.nn.init.constant_(module.where.weight, 0.0)
    module.where.weight.data[0, 0] = 50.0
    torch.nn.init.constant_(module.extent.bias, -20.0)  # the smallest window
    features = torch.zeros(1, 192, 7, 7)
    features[0, 0, 2, 5] = 1.0
    with torch.no_grad():
        theta = module.window(features)
    torch.testing.assert_close(theta[0, :, 2], torch.tensor([(2 * 5 + 1) / 7 - 1, (2 * 2 + 1) / 7 - 1]))
