"""Pages of real models with random weights in a real browser: selection of a site, a head and a query or output."""

from pathlib import Path

import pytest
from chromium import NEEDED, opened

import attnviz
from attnviz.models import load_model

pytestmark = NEEDED

CAT = Path(__file__).parents[2] / "sample_data" / "chelsea.png"


def write_page(folder, model, sites):
    """Write the page of a model, with the cheapest attribution method."""
    vision = load_model(model, weights="none")
    return attnviz.explain(str(CAT), vision, methods=["saliency"], sites=sites).save(folder / "report.html").as_uri()


def click(page, box, x, y):
    picker = page.tab.locator(f"{box} .picker")
    picker.scroll_into_view_if_needed()
    size = picker.bounding_box()
    picker.click(position={"x": x * size["width"], "y": y * size["height"]})


@pytest.mark.parametrize(
    ("model", "sites", "heads", "side"),
    [("timm:vit_tiny_patch16_224", "blocks.11*", 3, 14), ("nonlocal", "blocks.5*", 1, 7), ("pvt", "blocks.5*", 4, 7)],
)
def test_a_site_a_head_and_a_query_can_be_selected(browser, tmp_path, model, sites, heads, side):
    if model.startswith("timm:"):
        pytest.importorskip("timm")
    with opened(browser, write_page(tmp_path, model, sites)) as page:
        page.select_map(page.tab.eval_on_selector(".map-list input", "e => e.value"))
        page.tab.locator('.caption[data-side="a"] a').click()
        details = page.tab.eval_on_selector(".caption[data-side='a'] a", "e => e.getAttribute('href')")
        box = f'{details} [data-component="queries"]'
        page.tab.wait_for_selector(f"{box}[data-ready=yes]")
        click(page, box, 0.01, 0.99)
        assert page.tab.text_content(f"{box} .status").startswith(f"Query: row {side}, column 1.")
        select = page.tab.locator(f"{box} select")
        assert (select.locator("option").count() if select.count() else 1) == heads + (heads > 1)
        if heads > 1:
            mean = page.tab.locator(f"{box} canvas").screenshot()
            select.select_option(label="head 2")
            # With random weights, all heads of a PVT attend uniformly; those of a ViT do not.
            assert (page.tab.locator(f"{box} canvas").screenshot() != mean) is model.startswith("timm:")
        page.tab.focus(f"{box} .picker")
        page.tab.keyboard.press("ArrowRight")
        assert page.tab.text_content(f"{box} .status").startswith(f"Query: row {side}, column 2.")
        assert page.errors == []


def test_the_sampling_points_of_a_deformable_convolution_depend_on_the_output_position(browser, tmp_path):
    with opened(browser, write_page(tmp_path, "dcn", "blocks.5.3*")) as page:
        box = 'details[open] [data-component="points"]'
        page.tab.wait_for_selector(f"{box}[data-ready=yes]")
        click(page, box, 0.5, 0.5)
        centre = page.tab.text_content(f"{box} .status")
        assert "samples 9" in centre
        click(page, box, 0.1, 0.1)
        assert page.tab.text_content(f"{box} .status") != centre
        assert page.errors == []
