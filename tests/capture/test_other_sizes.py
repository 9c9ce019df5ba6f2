"""Sites hold for other batch sizes, resolutions and later calls; a map that cannot be laid is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from zoo_cases import Tokens, scores
from zoo_pairwise import SoftmaxAttention

from attnviz import edits, project
from attnviz.edits.intervention import intervene
from attnviz.errors import CaptureError
from attnviz.recording import capture
from attnviz.tracing import find_attention


def images(n=2, size=4):
    return torch.randn(n, 16, size, size, generator=torch.Generator().manual_seed(0))


class ByEinsum(Tokens):
    def attend(self, q, k, v):
        return torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1), v)


class WithTwoQueryAxes(Tokens):
    """Queries in rows and columns."""

    def attend(self, q, k, v):
        side = int(q.shape[2] ** 0.5)
        q = q.unflatten(2, (side, side))
        weights = torch.einsum("bhyxd,bhjd->bhyxj", q, k).softmax(-1)
        return torch.einsum("bhyxj,bhjd->bhyxd", weights, v).flatten(2, 3)


class Windowed(nn.Module):
    """Windows of 2 × 2 in the first axis, with three-dimensional products."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x):
        n, c, h, w = x.shape
        t = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        q, k, v = self.qkv(t).chunk(3, -1)
        return torch.bmm(torch.bmm(q, k.mT).softmax(-1), v)


MODELS = [SoftmaxAttention, ByEinsum, WithTwoQueryAxes, Windowed]


def build(cls):
    torch.manual_seed(0)
    return cls().eval()


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("size", [8, 6])
def test_a_site_of_one_resolution_records_another(cls, size):
    model = build(cls)
    sites = find_attention(model, images())
    for n in (1, 3):
        x = images(n, size)
        with torch.no_grad():
            plain = model(x)
            with capture(model, sites) as captured:
                torch.testing.assert_close(model(x), plain)
            with intervene(model, {"*": edits.uniform}, sites):
                assert not torch.allclose(model(x), plain)
        assert captured.records[0].verify() < 1e-5
        with pytest.raises(CaptureError, match="found with inputs of another size, find them again with these inputs"):
            project(captured.records[0])


@pytest.mark.parametrize("cls", MODELS)
def test_a_map_of_another_batch_size_is_laid(cls):
    model = build(cls)
    sites = find_attention(model, images(1))
    with torch.no_grad(), capture(model, sites) as captured:
        model(images(3))
    assert project(captured.records[0]).values.shape == (3, 4, 4)


class Twice(nn.Module):
    """The same attention on a feature map and on a smaller one."""

    def __init__(self, cls):
        super().__init__()
        self.inner = cls()

    def forward(self, x):
        return self.inner(x).mean() + self.inner(F.avg_pool2d(x, 2)).mean()


@pytest.mark.parametrize("cls", MODELS)
def test_each_call_of_a_module_has_its_own_layout(cls):
    torch.manual_seed(0)
    model = Twice(cls).eval()
    with torch.no_grad(), capture(model) as captured:
        model(images(2, 8))
        model(images(2, 8))
    assert [record.verify() < 1e-5 for record in captured.records] == [True] * 4
    shapes = [project(record).values.shape for record in captured.records]
    assert shapes == [(2, 8, 8), (2, 4, 4)] * 2


class Cached(Tokens):
    """Keys of earlier calls stay, as in a decoder, behind an empty tensor."""

    def __init__(self):
        super().__init__()
        self.keys = self.values = torch.tensor([])

    def attend(self, q, k, v):
        k, v = torch.cat([self.keys, k], -2), torch.cat([self.values, v], -2)
        if self.is_kept:
            self.keys, self.values = k, v
        return scores(q, k).softmax(-1) @ v


def test_later_calls_with_a_cache_are_recorded_and_their_maps_refused():
    model = build(Cached)
    model.is_kept = False
    sites = find_attention(model, images(1))
    assert len(sites) == 1
    model.is_kept = True
    with torch.no_grad(), capture(model, sites) as captured:
        model(images(1))
        model(images(1))
    assert [record.shape for record in captured.records] == [(1, 2, 16, 16), (1, 2, 16, 32)]
    assert project(captured.records[0]).values.shape == (1, 4, 4)
    with pytest.raises(CaptureError, match="find them again"):
        project(captured.records[1])


class Kept(nn.Module):
    """Tokens are kept by their score, in the order of the score or of their positions."""

    def __init__(self, choose):
        super().__init__()
        self.first, self.second, self.choose = SoftmaxAttention(), Tokens(), choose
        self.second.attend = lambda q, k, v: scores(q, k).softmax(-1) @ v

    def forward(self, x):
        t = self.first(x)
        return self.second(self.choose(t).mT[..., None])


def best(t):
    index = t.sum(-1).topk(8, 1).indices
    return t.gather(1, index[..., None].expand(-1, -1, t.shape[-1]))


def best_in_order(t):
    index = t.sum(-1).topk(8, 1).indices.sort(1).values
    return t.gather(1, index[..., None].expand(-1, -1, t.shape[-1]))


def best_by_mask(t):
    return t[:, t.sum((0, 2)) > t.sum((0, 2)).median()]


def at_random(t):
    index = torch.rand(t.shape[:2]).argsort(1)[:, :8]
    return t.gather(1, index[..., None].expand(-1, -1, t.shape[-1]))


def merged(t):
    """The odd tokens are added to the even ones that are most similar (ToMe)."""
    even, odd = t[:, ::2], t[:, 1::2]
    target = (odd @ even.mT).argmax(-1)
    return even.scatter_add(1, target[..., None].expand_as(odd), odd)


def sorted_tokens(t):
    return t.take_along_dim(t.sum(-1, keepdim=True).argsort(1), 1)


@pytest.mark.parametrize("choose", [best, best_in_order, best_by_mask, at_random, merged, sorted_tokens])
def test_positions_that_depend_on_the_data_are_unknown(choose):
    torch.manual_seed(0)
    model, x = Kept(choose).eval(), images(2)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    first, second = captured.records
    assert project(first).values.shape == (2, 4, 4)
    assert second.site.layouts == (None,) or second.site.layout.keys is None
    with pytest.raises(CaptureError, match="no known positions"):
        project(second)


def test_tokens_of_a_fixed_choice_keep_their_positions():
    model, x = Kept(lambda t: t[:, [5, 0, 10, 15]]), images(1)
    with torch.no_grad(), capture(model.eval()) as captured:
        model(x)
    record = captured.records[-1]
    laid = project(record).values.flatten()
    assert laid.nonzero().flatten().tolist() == [0, 5, 10, 15]
    assert torch.equal(laid[[5, 0, 10, 15]], record.g[0].mean((0, 1)))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(8, 4, 0, 7), (7, 4, 2, 8), (8, 8, 0, 4), (3, 2, 1, 16)]
)
def test_unfolded_tokens_have_one_cell_each(kernel, stride, padding, side):
    class Unfolded(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.qkv = nn.LayerNorm(3 * kernel**2), nn.Linear(3 * kernel**2, 48)

        def forward(self, x):
            t = F.unfold(x, kernel, padding=padding, stride=stride).mT
            q, k, v = self.qkv(self.norm(t)).chunk(3, -1)
            return scores(q, k).softmax(-1) @ v

    torch.manual_seed(0)
    model, x = Unfolded().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    (record,) = captured.records
    assert project(record).values.shape == (2, side, side)
    assert torch.equal(project(record).values.flatten(1), record.g.mean((1, 2)))
    assert (project(record, size=(32, 32)).values > 0).all()


def test_windows_of_a_method_are_laid_for_the_batch_size_of_the_search():
    class Method(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Windowed()

        def encode(self, x):
            return self.inner(x)

    torch.manual_seed(0)
    model = Method().eval()
    sites = find_attention(model.encode, images(2))
    for n, is_laid in ((2, True), (3, False)):
        with torch.no_grad(), capture(model, sites) as captured:
            model.encode(images(n))
        if is_laid:
            assert project(captured.records[0]).values.shape == (2, 4, 4)
        else:
            with pytest.raises(CaptureError, match="another size"):
                project(captured.records[0])
