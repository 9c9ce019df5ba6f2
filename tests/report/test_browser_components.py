"""Components in a real browser: selection of a query and of an output position by pointer and keyboard."""

from dataclasses import replace

import numpy as np
import pytest
from chromium import NEEDED, expect, opened

from attnviz.report import describe
from attnviz.report.components import Level, Outline, Points, Queries
from attnviz.report.core.document import ClipView, FrameMaps
from attnviz.report.explanation import html

pytestmark = NEEDED

SIDE = 4
CENTRES = (np.arange(SIDE) + 0.5) / SIDE
POSITIONS = [(x, y) for y in CENTRES for x in CENTRES]


def queries() -> Queries:
    """The class token attends to row 1, column 2, other queries to their own positions. Head 2 differs."""
    count = SIDE * SIDE
    maps = np.zeros((3, count + 1, SIDE, SIDE), np.float16)
    maps[:, 0, 0, 1] = 0.5
    for query in range(count):
        maps[0, query + 1, query // SIDE, query % SIDE] = 0.25
    maps[2, 0] = 0
    maps[2, 0, 3, 3] = 1
    unplaced = np.zeros((3, count + 1))
    unplaced[0, 0] = 0.125
    names = ("class token", *(f"row {row + 1}, column {column + 1}" for row in range(SIDE) for column in range(SIDE)))
    centres = np.array([(np.nan, np.nan), *POSITIONS], np.float32)
    sheets = ("mean over heads", "head 1", "head 2")
    return Queries("Attention of each query", "Select.", names, centres, (1 / SIDE, 1 / SIDE), sheets, maps, unplaced)


def level(name: str) -> Level:
    """Each position samples the positions to its left and above."""
    positions = np.array(POSITIONS, np.float32)
    points = np.stack([positions - (1 / SIDE, 0), positions - (0, 1 / SIDE)], 1)
    return Level(name, (SIDE, SIDE), points, np.ones((SIDE * SIDE, 2), np.float32))


def clip() -> ClipView:
    """Three frames, each with a map."""
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    maps = FrameMaps(
        "saliency", "attribution", "saliency", "input", np.float16(frames[..., 0] / 255), 0, 1, False, False
    )
    return ClipView(frames, (0.5, 1.5, 2.5), 30, 1, True, np.float32([0.2, 0.5, 0.3]), (maps,))


@pytest.fixture(scope="module")
def address(explanation, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    document = describe(explanation)
    square = np.array([(0.2, 0.1), (1.2, 0.1), (1.2, 0.9), (0.2, 0.9)], np.float32)
    outline = Outline("Sampled region", "Inside.", square, square[None])
    points = Points("Sampling points", "Select.", (level("b"), level("a")))
    first, second, *rest = document.sites
    sites = (
        replace(first, kind="pairwise", components=(queries(),)),
        replace(second, kind="sampling", components=(points, outline)),
        *rest,
    )
    html.write(replace(document, sites=sites, clip=clip()), path)
    return path.as_uri()


@pytest.fixture
def page(browser, address, request):
    params = getattr(request, "param", {})
    with opened(browser, address, **params) as one:
        if params.get("java_script_enabled", True):
            expect(one.tab.locator(".interactive[data-ready=yes]")).to_have_count(2)
        yield one


class Picker:
    """An image on which a position is selected."""

    def __init__(self, page, name):
        self.page, self.box = page, f'[data-component="{name}"]'

    @property
    def status(self):
        return self.page.tab.text_content(f"{self.box} .status")

    def click(self, column, row):
        button = self.page.tab.locator(f"{self.box} .picker")
        button.scroll_into_view_if_needed()
        size = button.bounding_box()
        button.click(position={"x": CENTRES[column] * size["width"], "y": CENTRES[row] * size["height"]})

    def press(self, key):
        self.page.tab.focus(f"{self.box} .picker")
        self.page.tab.keyboard.press(key)

    def colour(self, column, row):
        """Red, green, blue and opacity of the canvas at a position."""
        script = f"""e => [...e.getContext('2d').getImageData(
            {CENTRES[column]} * e.width, {CENTRES[row]} * e.height, 1, 1).data]"""
        return self.page.tab.eval_on_selector(f"{self.box} canvas", script)


BRIGHT, DARK = [253, 231, 37, 255], [68, 1, 84, 255]  # viridis


def test_the_class_token_is_shown_first(page):
    picker = Picker(page, "queries")
    assert picker.status.startswith("Query: class token. Largest weight: 0.50 at row 1, column 2 of 4 × 4.")
    assert "Tokens without a position have 0.13." in picker.status
    assert page.tab.get_attribute(f"{picker.box} .token", "aria-pressed") == "true"
    assert not page.tab.is_visible(f"{picker.box} .query-cell")
    assert page.errors == []
    assert picker.colour(1, 0) == BRIGHT
    assert picker.colour(0, 0) == DARK


def test_a_click_selects_the_query_under_it(page):
    picker = Picker(page, "queries")
    picker.click(2, 3)
    assert picker.status.startswith("Query: row 4, column 3. Largest weight: 0.25 at row 4, column 3 of 4 × 4.")
    assert (picker.colour(2, 3), picker.colour(1, 0)) == (BRIGHT, DARK)
    assert page.tab.is_visible(f"{picker.box} .query-cell")
    assert page.tab.get_attribute(f"{picker.box} .token", "aria-pressed") == "false"
    page.tab.click(f"{picker.box} .token")
    assert picker.status.startswith("Query: class token.")


def test_arrow_keys_move_from_query_to_query_and_stop_at_the_border(page):
    picker = Picker(page, "queries")
    picker.click(1, 1)
    for key, wanted in (("ArrowRight", "row 2, column 3"), ("ArrowDown", "row 3, column 3"),
                        ("ArrowLeft", "row 3, column 2"), ("ArrowLeft", "row 3, column 1"),
                        ("ArrowLeft", "row 3, column 1"), ("ArrowUp", "row 2, column 1")):  # fmt: skip
        picker.press(key)
        assert f"Query: {wanted}." in picker.status
    picker.press("Enter")
    assert "Query: row 2, column 1." in picker.status
    assert page.errors == []


def test_a_head_can_be_selected(page):
    picker = Picker(page, "queries")
    page.tab.select_option(f"{picker.box} select", label="head 2")
    assert "1.00 at row 4, column 4 of 4 × 4" in picker.status
    assert picker.colour(3, 3) == BRIGHT


def test_the_points_of_an_output_position_are_drawn_for_both_layers(page):
    picker = Picker(page, "points")
    picker.click(2, 2)
    assert picker.status == "Output at row 3, column 3 of 4 × 4 (white cross): samples 2, then 4 points."
    yellow, red = [255, 196, 0, 255], [255, 92, 60, 255]
    assert picker.colour(1, 2) == picker.colour(2, 1) == yellow
    assert picker.colour(0, 2) == picker.colour(1, 1) == picker.colour(2, 0) == red
    assert picker.colour(3, 3)[3] == 0
    page.tab.uncheck(f"{picker.box} .levels li:nth-child(2) input")
    assert picker.colour(1, 1)[3] == 0
    assert picker.colour(1, 2) == yellow


def test_points_outside_of_the_image_are_counted(page):
    picker = Picker(page, "points")
    picker.click(0, 1)
    assert "1 of the first 2 outside of the image" in picker.status
    picker.press("ArrowUp")
    assert "Output at row 1, column 1" in picker.status
    assert "2 of the first 2 outside" in picker.status
    picker.press("ArrowUp")
    assert "Output at row 1, column 1" in picker.status


def test_a_closed_site_is_decoded_when_it_is_opened(page):
    tab = page.tab
    tab.evaluate("document.querySelectorAll('details.site').forEach(d => { d.open = false; })")
    tab.reload()
    tab.eval_on_selector('[data-component="queries"]', "e => { e.closest('details').open = true; }")
    expect(tab.locator('[data-component="queries"]')).to_have_attribute("data-ready", "yes")
    assert Picker(page, "queries").status.startswith("Query: class token")


def test_an_outline_beyond_the_image_is_drawn_completely(page):
    box = page.tab.get_attribute('[data-component="outline"] svg', "viewBox")
    left, top, side, _ = map(float, box.split())
    assert (left, left + side) == (0, 1200)
    assert top <= 0
    assert "Samples outside of the image" in page.tab.text_content('[data-component="outline"]')


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_the_first_query_is_shown_as_a_picture(page):
    assert page.tab.is_visible('[data-component="queries"] .fallback')
    assert not page.tab.is_visible('[data-component="queries"] .picker')


@pytest.mark.parametrize("page", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_on_a_phone_nothing_is_wider_than_the_screen(page):
    assert page.tab.evaluate("document.documentElement.scrollWidth") == 360
    assert page.tab.locator('[data-component="queries"] .picker').bounding_box()["width"] > 280


def test_every_control_has_an_accessible_name(page):
    assert page.tab.get_by_role("button", name="Select a query on the image").count() == 1
    assert page.tab.get_by_role("button", name="Select an output position on the image").count() == 1
    assert page.tab.get_by_role("combobox", name="Heads").count() == 1
    assert page.tab.get_by_role("checkbox").count() == 2


@pytest.mark.parametrize(
    ("page", "label"),
    [({"reduced_motion": "no-preference"}, "Stop the animation"), ({"reduced_motion": "reduce"}, "Play the animation")],
    indirect=["page"],
)
def test_an_animation_can_be_stopped_and_respects_reduced_motion(page, label):
    def kind():
        return page.tab.get_attribute(".animation img", "src").partition(";")[0]

    moving = label.startswith("Stop")
    assert page.tab.text_content(".animation button") == label
    assert kind() == ("data:image/gif" if moving else "data:image/jpeg")
    page.tab.click(".animation button")
    assert kind() == ("data:image/jpeg" if moving else "data:image/gif")


def test_axe_reports_no_violations_in_components(page):
    page.open_all_details()
    assert page.axe_violations() == []


def test_pointing_at_a_component_marks_the_same_position_on_the_maps(page):
    page.tab.locator('[data-component="queries"] .picker').hover(position={"x": 50, "y": 50})
    assert not page.tab.eval_on_selector("#pane-a .mark", "e => e.hidden")


def test_a_clip_is_shown_as_frames_and_as_an_animation(page):
    tab = page.tab
    assert tab.eval_on_selector(".animation img", "e => [e.naturalWidth, e.naturalHeight]") == [2 * 256 + 4, 256 + 34]
    assert tab.locator(".frames td img").count() == 2 * 3
    assert tab.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    assert tab.locator(".frames .shown").count() == 2
    assert tab.locator(".frames thead th").all_text_contents() == ["map", "0.50 s", "1.50 s", "2.50 s"]
