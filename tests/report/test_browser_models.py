"""Pages of real models, weights random, in a real browser: a site, a head and a query, or the points of an output."""

from pathlib import Path

import pytest
from chromium import NEEDED, Reader

import attnviz
from attnviz.models import load_model

pytestmark = NEEDED

CAT = Path(__file__).parents[2] / "sample_data" / "chelsea.png"


def opened(browser, tmp_path, model, sites):
    """The page of a model; saliency alone, as attributions are not what is looked at here."""
    vision = load_model(model, weights="none")
    path = attnviz.explain(str(CAT), vision, methods=["saliency"], sites=sites).save(tmp_path / "report.html")
    return Reader(browser.new_context().new_page(), path.as_uri())


def click(reader, box, x, y):
    pad = reader.tab.locator(f"{box} .pad")
    pad.scroll_into_view_if_needed()
    size = pad.bounding_box()
    pad.click(position={"x": x * size["width"], "y": y * size["height"]})


@pytest.mark.parametrize(
    ("model", "sites", "heads", "side"),
    [
        ("timm:vit_tiny_patch16_224", "blocks.11*", 3, 14),
        ("nonlocal", "blocks.5*", 1, 7),
        ("pvt", "blocks.5*", 4, 7),
    ],
)
def test_a_site_a_head_and_a_query_are_chosen(browser, tmp_path, model, sites, heads, side):
    if model.startswith("timm:"):
        pytest.importorskip("timm")
    reader = opened(browser, tmp_path, model, sites)
    name = reader.tab.eval_on_selector(".chooser input", "e => e.value")
    reader.choose(name)
    reader.tab.locator('.caption[data-side="a"] a').click()  # what else is known of the site
    details = reader.tab.eval_on_selector(".caption[data-side='a'] a", "e => e.getAttribute('href')")
    box = f'{details} [data-component="queries"]'
    reader.tab.wait_for_selector(f"{box}[data-ready=yes]")
    click(reader, box, 0.01, 0.99)
    assert reader.tab.text_content(f"{box} .now").startswith(f"Query: row {side}, column 1.")
    select = reader.tab.locator(f"{box} select")
    assert (select.locator("option").count() if select.count() else 1) == heads + (heads > 1)
    if heads > 1:
        mean = reader.tab.locator(f"{box} canvas").screenshot()
        select.select_option(label="head 2")
        # Untrained, the heads of a PVT look everywhere alike, and those of a ViT do not.
        assert (reader.tab.locator(f"{box} canvas").screenshot() != mean) is model.startswith("timm:")
    reader.tab.focus(f"{box} .pad")
    reader.tab.keyboard.press("ArrowRight")
    assert reader.tab.text_content(f"{box} .now").startswith(f"Query: row {side}, column 2.")
    assert reader.troubles == []
    reader.tab.context.close()


def test_an_output_position_of_a_deformable_convolution_shows_what_it_reads(browser, tmp_path):
    reader = opened(browser, tmp_path, "dcn", "blocks.5.3*")
    box = 'details[open] [data-component="points"]'
    reader.tab.wait_for_selector(f"{box}[data-ready=yes]")
    click(reader, box, 0.5, 0.5)
    centre = reader.tab.text_content(f"{box} .now")
    assert "reads 9" in centre
    click(reader, box, 0.1, 0.1)
    assert reader.tab.text_content(f"{box} .now") != centre
    assert reader.troubles == []
    reader.tab.context.close()
