"""The map viewer in a real browser: two maps, the shared cursor, the keyboard, printing, and accessibility."""

import numpy as np
import pytest
from chromium import NEEDED, expect, opened

from attnviz.report.core.formatting import number
from attnviz.report.explanation import html

pytestmark = NEEDED


@pytest.fixture(scope="module")
def address(document, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    html.write(document, path)
    return path.as_uri()


@pytest.fixture
def page(browser, address, request):
    with opened(browser, address, **getattr(request, "param", {})) as one:
        yield one


def clip(page):
    return page.style("#pane-b", "clipPath")


def readout(page):
    return page.tab.text_content("#readout")


def values_at(document, x, y):
    """Return name -> the text of the value at a position, to a step of the colour scale."""
    found = {}
    for view in document.maps:
        rows, columns = view.values.shape
        value = float(view.values[int(y * rows), int(x * columns)])
        step = np.rint(255 * np.clip((value - view.low) / (view.high - view.low), 0, 1))
        end = "≥ " if view.clipped and step == 255 else "≤ " if view.clipped and view.signed and step == 0 else ""
        found[view.name] = end + number(view.low + (view.high - view.low) * float(step) / 255)
    return found


class TestTwoMaps:
    def test_initially_one_map_is_shown(self, page):
        assert page.tab.is_visible("#pane-a")
        assert not page.tab.is_visible("#pane-b")
        assert not page.tab.is_visible("#divider")

    def test_side_by_side_shows_both_maps_with_scales_and_captions(self, page):
        page.set_mode("side")
        left, right = (page.tab.locator(one).bounding_box() for one in ("#pane-a", "#pane-b"))
        assert left["x"] + left["width"] < right["x"]
        assert (left["y"], left["width"]) == (right["y"], right["width"])
        assert page.title == "blocks.5.cbam.spatial"
        assert page.text("title", "b") == "Grad-CAM"
        assert page.tab.get_attribute("#pane-b .overlay", "alt") == "Map of Grad-CAM"
        page.tab.select_option("#second", label="SmoothGrad")
        assert page.text("title", "b") == "SmoothGrad"
        assert page.errors == []

    def test_the_divider_can_be_dragged(self, page):
        page.set_mode("swipe")
        box, tab = page.tab.locator("#panes").bounding_box(), page.tab
        assert clip(page) == "inset(0px 0px 0px 50%)"
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 200)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + 100)
        assert clip(page) == "inset(0px 0px 0px 25%)"
        tab.mouse.up()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
        assert clip(page) == "inset(0px 0px 0px 25%)"
        assert tab.get_attribute("#divider", "aria-valuenow") == "25"

    def test_the_divider_moves_by_keys_and_stops_at_the_borders(self, page):
        page.set_mode("swipe")
        page.tab.focus("#divider")
        for key, wanted in (("ArrowRight", 52), ("Shift+ArrowLeft", 42), ("PageUp", 52), ("End", 100),
                            ("ArrowRight", 100), ("Home", 0), ("ArrowLeft", 0)):  # fmt: skip
            page.tab.keyboard.press(key)
            assert page.tab.get_attribute("#divider", "aria-valuenow") == str(wanted)
            assert page.tab.get_attribute("#divider", "aria-valuetext") == f"{wanted} % from the left"
        assert page.style("#divider", "outlineStyle") == "solid"

    def test_the_divider_separates_the_two_maps(self, page):
        panes = page.tab.locator("#panes")
        page.set_slider(100)
        page.set_mode("swipe")
        page.tab.focus("#divider")
        page.tab.keyboard.press("End")
        first = panes.screenshot()
        page.tab.keyboard.press("Home")
        assert panes.screenshot() != first

    def test_a_map_can_be_compared_with_the_plain_image(self, page):
        page.set_mode("swipe")
        page.tab.select_option("#second", label="image only")
        assert not page.tab.is_visible("#pane-b .overlay")
        assert page.style("#pane-b .base-image", "filter") == "none"
        assert page.text("title", "b") == "Image"
        assert page.errors == []


class TestCursor:
    def test_the_values_of_all_maps_at_the_pointer_are_shown(self, page, document):
        box = page.tab.locator("#pane-a").bounding_box()
        page.tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
        expect(page.tab.locator(".option .value-here").first).not_to_be_empty()
        wanted = values_at(document, 0.3, 0.6)
        rows = page.tab.eval_on_selector_all(
            ".map-list label",
            "all => all.map(e => [e.querySelector('input').value, e.querySelector('.value-here').textContent])",
        )
        assert dict(rows) == wanted
        tiles = page.tab.eval_on_selector_all(
            "[data-value-of]", "all => all.map(e => [e.dataset.valueOf, e.textContent])"
        )
        assert dict(tiles) == wanted
        value = wanted["blocks.5.cbam.spatial"]
        assert readout(page) == f"30 % from the left, 60 % from the top: blocks.5.cbam.spatial {value}"

    def test_the_same_position_is_marked_on_all_maps_until_the_pointer_leaves(self, page, document):
        box = page.tab.locator("#pane-a").bounding_box()
        page.tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
        marks = page.tab.eval_on_selector_all(".tiles .mark", "all => all.map(e => [e.hidden, e.style.left])")
        assert len(marks) == len(document.maps)
        assert all(not hidden and abs(float(left[:-1]) - 25) < 0.5 for hidden, left in marks)
        page.tab.mouse.move(2, 2)
        assert page.tab.locator(".mark:visible").count() == 0
        assert readout(page).startswith("Point at the image")

    def test_pointing_at_a_small_map_marks_the_large_one(self, page):
        tile = page.tab.locator('button[data-map="saliency"] .linked')
        tile.hover(position={"x": 20, "y": 30})
        assert not page.tab.eval_on_selector("#pane-a .mark", "e => e.hidden")

    def test_a_click_fixes_the_position_and_escape_releases_it(self, page):
        page.tab.locator("#pane-a").click(position={"x": 58, "y": 290})
        page.tab.mouse.move(2, 2)
        assert readout(page).startswith("10 % from the left, 50 % from the top")
        page.tab.focus("#panes")
        page.tab.keyboard.press("Escape")
        assert readout(page).startswith("Point at the image")

    def test_arrow_keys_move_the_cursor_up_to_the_border(self, page):
        page.tab.focus("#panes")
        assert page.style("#panes", "outlineStyle") == "solid"
        for key, wanted in (("ArrowLeft", "50 % from the left, 50 %"), ("ArrowLeft", "48 % from the left, 50 %"),
                            ("Shift+ArrowDown", "48 % from the left, 60 %")):  # fmt: skip
            page.tab.keyboard.press(key)
            assert readout(page).startswith(wanted)
        for _ in range(6):
            page.tab.keyboard.press("Shift+ArrowLeft")
        assert readout(page).startswith("0 % from the left")
        assert page.tab.get_attribute("#readout", "aria-live") == "polite"
        assert page.errors == []

    def test_the_readout_contains_the_values_of_both_maps(self, page):
        page.set_mode("side")
        page.tab.focus("#panes")
        page.tab.keyboard.press("ArrowUp")
        expect(page.tab.locator("#readout")).to_contain_text("Grad-CAM ")
        assert "blocks.5.cbam.spatial " in readout(page)


def test_the_caption_of_a_map_links_to_the_details_of_its_site(page):
    link = page.tab.locator('.caption[data-side="a"] a')
    target = link.get_attribute("href")
    page.tab.eval_on_selector(target, "e => { e.open = false; }")
    link.click()
    assert page.tab.eval_on_selector(target, "e => e.open")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 400)])
@pytest.mark.parametrize("mode", ["one", "side", "swipe"])
def test_axe_reports_no_violations(browser, address, scheme, mode, width):
    with opened(browser, address, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.set_mode(mode)
        page.open_all_details()
        page.tab.evaluate("cursor.set([0.5, 0.5], true)")
        assert page.axe_violations() == []
        assert page.tab.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("page", [{"color_scheme": "dark"}], indirect=True)
def test_a_print_is_light_with_all_details_open_and_without_controls(page):
    page.tab.eval_on_selector("details", "e => { e.open = false; }")
    count = "document.querySelectorAll('details:not([open])').length"
    page.tab.evaluate(f"addEventListener('beforeprint', () => {{ window.closedInPrint = {count}; }})")
    assert page.tab.pdf().startswith(b"%PDF")
    assert page.tab.evaluate("window.closedInPrint") == 0
    assert not page.tab.eval_on_selector("details", "e => e.open")
    page.tab.emulate_media(media="print", color_scheme="dark")
    assert page.style("body", "backgroundColor") == "rgb(255, 255, 255)"
    assert page.style("body", "color") == "rgb(27, 29, 34)"
    for control in ("#theme", ".modes", "#opacity", ".map-list", "#readout"):
        assert not page.tab.locator(control).first.is_visible()
