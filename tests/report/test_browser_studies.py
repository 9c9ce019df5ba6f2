"""The pages of ``compare`` and ``sparsity``, as the commands write them, in a real browser."""

import sys
from pathlib import Path

import pytest
from chromium import NEEDED, opened
from click.testing import CliRunner

from attnviz.cli.main import cli

pytestmark = [*NEEDED, pytest.mark.filterwarnings("ignore")]

TESTS = Path(__file__).parents[1]
IMAGES = [str(TESTS.parent / "sample_data" / name) for name in ("chelsea.png", "coffee.png")]
OPTIONS = {
    "compare": ["--methods", "gradcam,saliency", "--metrics", "insertion,average_drop"],
    "sparsity": ["--causal"],
}


@pytest.fixture(scope="module", params=OPTIONS)
def address(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    words = [request.param, *IMAGES, "--model", "tiny_model:build", "--out", str(folder), "--format", "html", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(TESTS / "cli"), *sys.path])
        result = CliRunner().invoke(cli, [*words, *OPTIONS[request.param]])
    assert result.exit_code == 0, result.output
    (path,) = folder.glob("*.html")
    return path.as_uri()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_it_opens_without_a_network_and_axe_reports_no_violations(browser, address, scheme, width):
    with opened(browser, address, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        assert page.errors == []
        assert [request for request in page.requests if not request.startswith(("file:", "data:"))] == []
        assert page.axe_violations() == []
        assert page.tab.evaluate("document.documentElement.scrollWidth") == width
        images = page.tab.evaluate("[...document.images].map(i => [i.naturalWidth > 0, i.alt.length > 10])")
        assert images
        assert images == [[True, True]] * len(images)
