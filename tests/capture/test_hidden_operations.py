"""Operations that no function mode receives are followed, or reported."""

import ctypes
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from zoo_cases import Tokens, scores

from attnviz.instrumentation.adapters import ADAPTERS, adapter
from attnviz.recording import capture
from attnviz.tracing import find_attention


def images(n=2, size=4):
    return torch.randn(n, 16, size, size, generator=torch.Generator().manual_seed(0))


def build(attend):
    torch.manual_seed(0)
    model = Tokens().eval()
    model.attend = attend
    return model


def softmax(q, k, v):
    return scores(q, k).softmax(-1) @ v


with warnings.catch_warnings():
    warnings.simplefilter("ignore")

    @torch.jit.script
    def softcap(t, c: float):
        return (t / c).tanh() * c

    @torch.jit.script
    def scripted_attention(q, k, v):
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class Doubled(torch.autograd.Function):
    """Its own operations are PyTorch's."""

    @staticmethod
    def forward(ctx, t):
        return t * 2


class Foreign(torch.autograd.Function):
    """Scores that a kernel outside PyTorch writes."""

    @staticmethod
    def forward(ctx, q, k):
        out = torch.empty(*q.shape[:-1], k.shape[-2])
        found = (q.numpy() @ k.mT.numpy()).astype("float32")
        ctypes.memmove(out.data_ptr(), found.ctypes.data, found.nbytes)
        return out


FOUND = {
    "scripted function of scores": lambda q, k, v: softcap(scores(q, k), 5.0).softmax(-1) @ v,
    "NumPy": lambda q, k, v: torch.from_numpy(scores(q, k).numpy() * 0.5).softmax(-1) @ v,
    "a list": lambda q, k, v: torch.tensor(scores(q, k).tolist()).softmax(-1) @ v,
    "vmap": lambda q, k, v: torch.vmap(lambda t: t * 2)(scores(q, k)).softmax(-1) @ v,
    "vmap of the attention": lambda q, k, v: softmax(q, k, v) + torch.vmap(lambda n: n * 2)(torch.arange(8.0)),
    "an autograd function": lambda q, k, v: Doubled.apply(scores(q, k)).softmax(-1) @ v,
    "a kernel": lambda q, k, v: Foreign.apply(q, k).softmax(-1) @ v,
    "flex_attention": flex_attention,
}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", FOUND)
def test_attention_behind_hidden_operations_is_found(name):
    model, x = build(FOUND[name]), images()
    with torch.no_grad():
        plain = model(x)
        with capture(model) as captured:
            torch.testing.assert_close(model(x), plain, rtol=1e-4, atol=1e-5)
    (record,) = captured.records
    assert record.site.kind.value == "pairwise"
    assert record.verify() < 1e-5
    assert record.g.sum(-1).sub(1).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_with_modified_scores_masks_and_shared_keys_is_captured():
    mask = create_block_mask(lambda b, h, q, k: q >= k, None, None, 16, 16, device="cpu")
    options = {"score_mod": lambda s, b, h, q, k: s + 0.1 * (q - k), "block_mask": mask, "enable_gqa": True}
    model, x = build(lambda q, k, v: flex_attention(q, k[:, :1], v[:, :1], **options)), images()
    with torch.no_grad():
        plain = model(x)
        with capture(model) as captured:
            torch.testing.assert_close(model(x), plain, rtol=1e-4, atol=1e-5)
    (record,) = captured.records
    assert record.verify() < 1e-5
    assert not record.g.triu(1).any()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_model_that_falls_back_from_flex_attention_keeps_its_mask():
    def attend(q, k, v):
        try:
            mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 16, 16, device="cpu")
            return flex_attention(q, k, v, block_mask=mask)
        except RuntimeError:
            return softmax(q, k, v)

    model, x = build(attend), images()
    with torch.no_grad():
        plain = model(x)
        with capture(model) as captured:
            torch.testing.assert_close(model(x), plain, rtol=1e-4, atol=1e-5)
    assert not captured.records[0].g.triu(1).any()


def test_attention_inside_a_scripted_function_is_reported():
    sites = find_attention(build(scripted_attention), images())
    assert list(sites) == []
    assert any("scripted function" in unclaimed.why for unclaimed in sites.unclaimed)


def test_a_kernel_that_computes_attention_is_reported():
    def attend(q, k, v):
        out = torch.empty_like(q)
        found = softmax(q, k, v).contiguous()
        ctypes.memmove(out.data_ptr(), found.data_ptr(), found.numel() * 4)
        return out

    with torch.no_grad():
        sites = find_attention(build(attend), images())
    assert any("computed outside PyTorch" in unclaimed.why for unclaimed in sites.unclaimed)


def test_an_operator_of_another_library_is_reported():
    with torch.library._scoped_library("attnviz_test", "DEF") as library:
        library.define("attend(Tensor q, Tensor k, Tensor v) -> Tensor")
        library.impl("attend", softmax, "CompositeExplicitAutograd")
        sites = find_attention(build(torch.ops.attnviz_test.attend), images())
    assert list(sites) == []
    assert [unclaimed.operation for unclaimed in sites.unclaimed] == ["attend"]
    assert "operations are unknown" in sites.unclaimed[0].why


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_reported():
    def attend(q, k, v):
        q, k, v = (torch.nested.as_nested_tensor(list(t), layout=torch.jagged) for t in (q, k, v))
        return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))

    class Nested(nn.Module):
        def forward(self, x):
            t = x.flatten(2).mT.unflatten(-1, (2, 8))
            return attend(t, t, t).transpose(1, 2).values()

    sites = find_attention(Nested(), images())
    assert list(sites) == []
    assert "scaled_dot_product_attention" in {unclaimed.operation for unclaimed in sites.unclaimed}


def exported(model, x):
    return torch.export.export(model, (x,)).module()


def decomposed(model, x):
    return torch.export.export(model, (x,)).run_decompositions().module()


def made_by_fx(model, x):
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(model)(x)


class Squeezed(nn.Module):
    """Self-attention, then an SE gate."""

    def __init__(self):
        super().__init__()
        self.tokens, self.conv, self.fc = build(softmax), nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 16)

    def forward(self, x):
        x = self.conv(x + self.tokens(x).mT.reshape(x.shape))
        return x * self.fc(x.mean((2, 3))).sigmoid()[..., None, None]


@pytest.mark.parametrize("export", [exported, decomposed, made_by_fx])
def test_exported_graphs_are_captured(export):
    torch.manual_seed(0)
    model, x = Squeezed().eval(), images()
    with torch.no_grad():
        graph = export(model, x)
        plain = graph(x)
        with capture(graph) as captured:
            torch.testing.assert_close(graph(x), plain)
    assert [record.site.kind.value for record in captured.records] == ["pairwise", "channel"]
    assert all(record.verify() < 1e-5 for record in captured.records)


@pytest.mark.parametrize("name", ["_hidden_attention", "hidden_attention_", "__main__.Attention"])
def test_an_adapter_fires_for_names_with_underscores(name):
    def attention(q, k, v):
        if torch.overrides.has_torch_function((q, k, v)):
            return torch.overrides.handle_torch_function(attention, (q, k, v), q, k, v)
        return scripted_attention(q, k, v)

    attention.__name__ = name
    adapter(name)(lambda q, k, v: (q @ k.mT).softmax(-1) @ v)
    try:
        (site,) = find_attention(build(attention), images())
    finally:
        ADAPTERS._entries.pop(name.strip("_"))
    assert site.kind.value == "pairwise"
