"""The pages of ``compare`` and ``sparsity`` in a real browser: as the commands write them, from a file, offline."""

import sys
from pathlib import Path

import pytest
from chromium import NEEDED, Reader
from click.testing import CliRunner

from attnviz.cli.main import cli

pytestmark = [*NEEDED, pytest.mark.filterwarnings("ignore")]

TESTS = Path(__file__).parents[1]
PHOTOS = [str(TESTS.parent / "sample_data" / name) for name in ("chelsea.png", "coffee.png")]
COMMANDS = {
    "compare": ["--methods", "gradcam,saliency", "--metrics", "insertion,average_drop"],
    "sparsity": ["--causal"],
}


@pytest.fixture(scope="module", params=COMMANDS)
def address(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    words = [request.param, *PHOTOS, "--model", "tiny_model:build", "--out", str(folder), "--format", "html", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(TESTS / "cli"), *sys.path])
        done = CliRunner().invoke(cli, [*words, *COMMANDS[request.param]])
    assert done.exit_code == 0, done.output
    (page,) = folder.glob("*.html")
    return page.as_uri()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_it_opens_without_a_network_fits_the_screen_and_axe_finds_nothing(browser, address, scheme, width):
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    reader = Reader(context.new_page(), address)
    assert reader.troubles == []
    assert [request for request in reader.requests if not request.startswith(("file:", "data:"))] == []
    assert reader.faults() == []
    assert reader.tab.evaluate("document.documentElement.scrollWidth") == width
    pictures = "[...document.images].map(i => [i.naturalWidth > 0, i.alt.length > 10])"
    shown = reader.tab.evaluate(pictures)
    assert shown
    assert shown == [[True, True]] * len(shown)
    context.close()
