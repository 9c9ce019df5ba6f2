"""A model that is traced, captured or edited with the identity computes what it computes otherwise."""

import pytest
import torch
from torch import nn
from zoo_pairwise import SoftmaxAttention

from attnviz.edits.intervention import intervene
from attnviz.errors import CaptureError
from attnviz.recording import capture
from attnviz.tracing import find_attention
from attnviz.tracing.plain_run import Difference, difference


def tokens(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Padded(nn.Module):
    def __init__(self, *, norm=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16) if norm else None)

    def forward(self, x, mask):
        return self.encoder(x, src_key_padding_mask=mask)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("lengths", [(6, 10), (10, 3), (10, 10)])
def test_padded_tokens_leave_the_fused_encoder_as_zeros(norm, lengths):
    torch.manual_seed(0)
    model, x = Padded(norm=norm).eval(), tokens(2, 10, 16)
    mask = torch.arange(10) >= torch.tensor(lengths)[:, None]
    with torch.no_grad():
        plain = model(x, mask)
        sites = find_attention(model, x, mask)
        with capture(model, sites) as captured:
            torch.testing.assert_close(model(x, mask), plain, rtol=1e-5, atol=1e-6)
        with intervene(model, {"*": lambda g: g.clone()}, sites):
            torch.testing.assert_close(model(x, mask), plain, rtol=1e-5, atol=1e-6)
    assert len(captured.records) == 2
    assert torch.backends.mha.get_fastpath_enabled()


def test_with_gradients_the_fused_encoder_keeps_no_zeros_and_neither_does_a_capture():
    torch.manual_seed(0)
    model, x = Padded().eval(), tokens(2, 10, 16)
    mask = torch.arange(10) >= torch.tensor((6, 10))[:, None]
    plain = model(x, mask)
    assert (plain[0, 6:] != 0).all()
    with capture(model) as captured:
        torch.testing.assert_close(model(x, mask), plain, rtol=1e-5, atol=1e-6)
    assert captured.sites.difference.is_rounding


class OwnAttention(nn.Module):
    def __init__(self, heads=2):
        super().__init__()
        self.attention = nn.MultiheadAttention(32, heads, batch_first=True)

    def forward(self, x, **options):
        return self.attention(x, x, x, **options)[0]


@pytest.mark.parametrize("keep", ["rows", "summary"])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_is_bit_identical(keep, heads, need_weights):
    torch.manual_seed(0)
    model, x = OwnAttention(heads).eval(), tokens(2, 9, 32)
    with torch.no_grad():
        plain = model(x, need_weights=need_weights)
        with capture(model, keep=keep):
            assert torch.equal(model(x, need_weights=need_weights), plain)


def test_a_padding_mask_of_multi_head_attention_keeps_the_output_within_rounding():
    torch.manual_seed(0)
    model, x = OwnAttention().eval(), tokens(2, 9, 32)
    mask = torch.arange(9) >= torch.tensor((5, 9))[:, None]
    with torch.no_grad():
        plain = model(x, key_padding_mask=mask, need_weights=False)
        with capture(model, keep="rows"):
            torch.testing.assert_close(model(x, key_padding_mask=mask, need_weights=False), plain)


def test_an_error_of_attnviz_takes_the_model_on_no_other_path():
    class Cautious(SoftmaxAttention):
        def attend(self, q, k, v):
            try:
                return super().attend(q, k, v)
            except Exception:  # noqa: BLE001  # the point of the test
                return v

    torch.manual_seed(0)
    model, x = Cautious().eval(), tokens(2, 16, 4, 4)
    (site,) = find_attention(model, x)

    class Unreadable:
        def read(self, args, kwargs):
            raise RuntimeError("this operand cannot be read")

    object.__setattr__(site, "use", Unreadable())
    outputs = []
    with torch.no_grad():
        plain = model(x)
        with (
            pytest.raises(CaptureError, match=r"output of the model is right, .* cannot be read"),
            capture(model, [site]),
        ):
            outputs.append(model(x))
        assert torch.equal(outputs[0], plain)
        caught = pytest.raises(CaptureError, match="the model caught its error: this operand cannot be read")
        with caught, intervene(model, {"*": lambda g: g}, [site]):
            model(x)


class Cache:
    """Keys of earlier calls."""

    def __init__(self):
        self.keys = torch.tensor([])

    def add(self, keys):
        self.keys = torch.cat([self.keys, keys], -2)
        return self.keys


class Cached(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x, cache=None):
        self.calls += 1
        q, k, v = self.qkv(x).chunk(3, -1)
        k = k if cache is None else cache.add(k)
        v = v if k.shape[-2] == v.shape[-2] else k
        return (q @ k.mT).softmax(-1) @ v


def test_finding_changes_neither_a_cache_nor_buffers_nor_inputs():
    torch.manual_seed(0)
    model, cache, x = Cached().eval(), Cache(), tokens(1, 3, 8)
    with torch.no_grad():
        model(x, cache)
    before = cache.keys
    (site,) = find_attention(model, x, cache=cache)
    assert cache.keys is before
    assert model.calls.tolist() == [1]
    assert site.kind.value == "pairwise"

    class Overwriting(nn.Module):
        def forward(self, x):
            return x.mul_(2)

    find_attention(Overwriting(), x)
    assert torch.equal(x, tokens(1, 3, 8))


def test_a_model_that_is_not_reproducible_is_told_apart():
    class Counting(SoftmaxAttention):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * self.calls

    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="output of the model differs by 1.0e\\+00, relative"):
        sites = find_attention(Counting().eval(), tokens(1, 16, 4, 4))
    assert sites.difference.largest == pytest.approx(1)
    assert not sites.difference.is_rounding


def test_random_numbers_of_pytorch_are_the_same_in_both_runs():
    class Noisy(SoftmaxAttention):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    assert find_attention(Noisy().eval(), tokens(1, 16, 4, 4)).difference.is_rounding


class Encoder(nn.Module):
    """A model whose image part is a method of its own."""

    def __init__(self):
        super().__init__()
        self.image, self.words = SoftmaxAttention(), nn.Embedding(9, 16)

    def encode_image(self, x):
        return self.image(x).mean(1)

    def forward(self, x, words):
        return self.encode_image(x) @ self.words(words).mean(1).mT


def test_a_method_is_traced_and_captured_with_its_sites():
    torch.manual_seed(0)
    model, x = Encoder().eval(), tokens(2, 16, 4, 4)
    sites = find_attention(model.encode_image, x)
    assert [site.module for site in sites] == ["image"]
    with torch.no_grad(), capture(model, sites) as captured:
        plain = model.encode_image(x)
    assert len(captured.records) == 1
    with torch.no_grad(), intervene(model, {"*": lambda g: g * 0}, sites):
        assert not torch.allclose(model.encode_image(x), plain)


@pytest.mark.parametrize("enter", [capture, lambda model: intervene(model, {"*": lambda g: g})])
def test_a_block_without_a_call_of_forward_is_an_error(enter):
    model, x = Encoder().eval(), tokens(2, 16, 4, 4)
    hint = r"Encoder\.forward was not called .* find_attention\(model\.encode_image"
    with pytest.raises(CaptureError, match=hint), enter(model):
        model.encode_image(x)


def test_a_method_is_no_model_for_a_capture():
    model = Encoder()
    with pytest.raises(CaptureError, match="got its method encode_image: pass the module"):
        capture(model.encode_image).__enter__()


def test_attention_outside_of_any_forward_is_reported():
    class Loose(Encoder):
        def encode_image(self, x):
            t = x.flatten(2).mT
            return (t @ t.mT).softmax(-1) @ t

    sites = find_attention(Loose().encode_image, tokens(2, 16, 4, 4))
    assert list(sites) == []
    assert "outside of any forward" in sites.unclaimed[0].why


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_fused_attention_of_a_caller_with_a_function_mode_stays_as_it_is():
    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    torch.manual_seed(0)
    model, x = Padded().eval(), tokens(2, 10, 16)
    mask = torch.arange(10) >= torch.tensor((6, 10))[:, None]
    with torch.no_grad(), Mode():
        plain = model(x, mask)
        with capture(model):
            torch.testing.assert_close(model(x, mask), plain, rtol=1e-5, atol=1e-6)


def test_a_method_without_sites_is_captured_without_records():
    class Plain(Encoder):
        def encode_image(self, x):
            return x.mean((2, 3))

    model, x = Plain(), tokens(2, 16, 4, 4)
    with capture(model, find_attention(model.encode_image, x)) as captured:
        model.encode_image(x)
    assert captured.records == []


def test_buffers_that_grow_with_the_input_stay_with_their_flag():
    class Growing(SoftmaxAttention):
        length = 0

        def forward(self, x):
            count = x.shape[-1] * x.shape[-2]
            if count > self.length:
                self.register_buffer("places", torch.arange(float(count)), persistent=False)
                self.length = count
            return super().forward(x) + self.places[:count, None]

    model, x = Growing().eval(), tokens(1, 16, 4, 4)
    with torch.no_grad():
        assert len(find_attention(model, x)) == 1
        plain = model(x)
        find_attention(model, tokens(1, 16, 8, 8))
        assert torch.equal(model(x), plain)


@pytest.mark.parametrize(
    ("dtype", "gap", "is_rounding"),
    [
        (torch.float32, 1e-3, False),
        (torch.float32, 1e-5, True),
        (torch.bfloat16, 1e-2, True),
        (torch.bfloat16, 0.1, False),
        (torch.float64, 1e-6, False),
    ],
)
def test_a_difference_is_judged_by_the_precision_and_given_as_it_is(dtype, gap, is_rounding):
    one = torch.tensor([2.0, 1.0], dtype=dtype)
    found = difference({"logits": one}, {"logits": one + torch.tensor([0.0, 2 * gap], dtype=dtype)})
    assert found.is_rounding == is_rounding
    assert found.largest == pytest.approx(gap, rel=0.3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 0.0])),
        (torch.tensor([torch.inf, 1.0]), torch.tensor([-torch.inf, 1.0])),
        (torch.tensor([0.0, 1.0]), torch.tensor([torch.nan, 1.0])),
        (torch.tensor([1, 2]), torch.tensor([1, 3])),
        (torch.zeros(2), torch.zeros(3)),
    ],
)
def test_other_special_values_integers_and_shapes_are_an_infinite_difference(one, other):
    assert difference(one, other).largest == float("inf")
    assert difference(one, one) == Difference(0.0, is_rounding=True)


def test_a_model_is_traced_in_a_working_folder_that_was_deleted(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "deleted"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    (site,) = find_attention(SoftmaxAttention().eval(), torch.rand(1, 16, 8, 8))
    assert "zoo_pairwise.py:" in site.source
