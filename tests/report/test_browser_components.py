"""Components in a real browser: a query and an output position are chosen by pointer and by keyboard."""

from dataclasses import replace

import numpy as np
import pytest
from chromium import NEEDED, Reader, expect

from attnviz.report import describe
from attnviz.report.components import Level, Outline, Points, Queries
from attnviz.report.core.document import ClipView, FrameMaps
from attnviz.report.explanation import html

pytestmark = NEEDED

SIDE = 4
CENTRES = (np.arange(SIDE) + 0.5) / SIDE
PLACES = [(x, y) for y in CENTRES for x in CENTRES]


def queries() -> Queries:
    """A class token that takes from row 1, column 2; every other query from its own place. Head 2 looks elsewhere."""
    count = SIDE * SIDE
    maps = np.zeros((3, count + 1, SIDE, SIDE), np.float16)
    maps[:, 0, 0, 1] = 0.5
    for query in range(count):
        maps[0, query + 1, query // SIDE, query % SIDE] = 0.25
    maps[2, 0] = 0
    maps[2, 0, 3, 3] = 1
    nowhere = np.zeros((3, count + 1))
    nowhere[0, 0] = 0.125
    names = ("class token", *(f"row {row + 1}, column {column + 1}" for row in range(SIDE) for column in range(SIDE)))
    spots = np.array([(np.nan, np.nan), *PLACES], np.float32)
    sheets = ("mean over heads", "head 1", "head 2")
    return Queries("What each query takes", "Choose.", names, spots, (1 / SIDE, 1 / SIDE), sheets, maps, nowhere)


def level(name: str) -> Level:
    """Each position reads the place to its left and the one above."""
    places = np.array(PLACES, np.float32)
    points = np.stack([places - (1 / SIDE, 0), places - (0, 1 / SIDE)], 1)
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
    outline = Outline("Where it reads", "Inside.", square, square[None])
    points = Points("What each output reads", "Choose.", (level("b"), level("a")))
    first, second, *rest = document.sites
    sites = (
        replace(first, kind="pairwise", components=(queries(),)),
        replace(second, kind="sampling", components=(points, outline)),
        *rest,
    )
    html.write(replace(document, sites=sites, clip=clip()), path)
    return path.as_uri()


@pytest.fixture
def reader(browser, address, request):
    params = getattr(request, "param", {})
    context = browser.new_context(**params)
    one = Reader(context.new_page(), address)
    if params.get("java_script_enabled", True):
        expect(one.tab.locator(".chooses[data-ready=yes]")).to_have_count(2)
    yield one
    context.close()


class Pad:
    """A photograph to choose on."""

    def __init__(self, reader, name):
        self.reader, self.box = reader, f'[data-component="{name}"]'

    @property
    def now(self):
        return self.reader.tab.text_content(f"{self.box} .now")

    def click(self, column, row):
        pad = self.reader.tab.locator(f"{self.box} .pad")
        pad.scroll_into_view_if_needed()
        size = pad.bounding_box()
        pad.click(position={"x": CENTRES[column] * size["width"], "y": CENTRES[row] * size["height"]})

    def press(self, key):
        self.reader.tab.focus(f"{self.box} .pad")
        self.reader.tab.keyboard.press(key)

    def colour(self, column, row):
        """What the canvas shows there: red, green, blue, opacity."""
        script = f"""e => [...e.getContext('2d').getImageData(
            {CENTRES[column]} * e.width, {CENTRES[row]} * e.height, 1, 1).data]"""
        return self.reader.tab.eval_on_selector(f"{self.box} canvas", script)


BRIGHT, DARK = [253, 231, 37, 255], [68, 1, 84, 255]  # viridis


def test_the_class_token_is_shown_first(reader):
    pad = Pad(reader, "queries")
    assert pad.now.startswith("Query: class token. It takes most from row 1, column 2 of 4 × 4 (0.50)")
    assert "0.13 comes from tokens that stand nowhere" in pad.now
    assert reader.tab.get_attribute(f"{pad.box} .token", "aria-pressed") == "true"
    assert not reader.tab.is_visible(f"{pad.box} .spot")
    assert reader.troubles == []
    assert pad.colour(1, 0) == BRIGHT
    assert pad.colour(0, 0) == DARK


def test_a_click_chooses_the_query_under_it(reader):
    pad = Pad(reader, "queries")
    pad.click(2, 3)
    assert pad.now.startswith("Query: row 4, column 3. It takes most from row 4, column 3 of 4 × 4 (0.25)")
    assert (pad.colour(2, 3), pad.colour(1, 0)) == (BRIGHT, DARK)
    assert reader.tab.is_visible(f"{pad.box} .spot")
    assert reader.tab.get_attribute(f"{pad.box} .token", "aria-pressed") == "false"
    reader.tab.click(f"{pad.box} .token")
    assert pad.now.startswith("Query: class token.")


def test_arrow_keys_move_from_query_to_query_and_stop_at_the_border(reader):
    pad = Pad(reader, "queries")
    pad.click(1, 1)
    for key, wanted in (("ArrowRight", "row 2, column 3"), ("ArrowDown", "row 3, column 3"),
                        ("ArrowLeft", "row 3, column 2"), ("ArrowLeft", "row 3, column 1"),
                        ("ArrowLeft", "row 3, column 1"), ("ArrowUp", "row 2, column 1")):  # fmt: skip
        pad.press(key)
        assert f"Query: {wanted}." in pad.now
    pad.press("Enter")
    assert "Query: row 2, column 1." in pad.now
    assert reader.troubles == []


def test_a_head_can_be_chosen(reader):
    pad = Pad(reader, "queries")
    reader.tab.select_option(f"{pad.box} select", label="head 2")
    assert "row 4, column 4 of 4 × 4 (1.00)" in pad.now
    assert pad.colour(3, 3) == BRIGHT


def test_an_output_position_shows_its_points_through_both_layers(reader):
    pad = Pad(reader, "points")
    pad.click(2, 2)
    assert pad.now == "Output at row 3, column 3 of 4 × 4 (white cross): reads 2, then 4 points."
    yellow, red = [255, 196, 0, 255], [255, 92, 60, 255]
    assert pad.colour(1, 2) == pad.colour(2, 1) == yellow
    assert pad.colour(0, 2) == pad.colour(1, 1) == pad.colour(2, 0) == red
    assert pad.colour(3, 3)[3] == 0
    reader.tab.uncheck(f"{pad.box} .levels li:nth-child(2) input")
    assert pad.colour(1, 1)[3] == 0
    assert pad.colour(1, 2) == yellow


def test_points_outside_of_the_photograph_are_counted(reader):
    pad = Pad(reader, "points")
    pad.click(0, 1)
    assert "1 of the first 2 outside of the photograph" in pad.now
    pad.press("ArrowUp")
    assert "Output at row 1, column 1" in pad.now
    assert "2 of the first 2 outside" in pad.now
    pad.press("ArrowUp")
    assert "Output at row 1, column 1" in pad.now


def test_a_closed_site_is_unpacked_when_it_is_opened(reader):
    tab = reader.tab
    tab.evaluate("document.querySelectorAll('details.site').forEach(d => { d.open = false; })")
    tab.reload()
    tab.eval_on_selector('[data-component="queries"]', "e => { e.closest('details').open = true; }")
    expect(tab.locator('[data-component="queries"]')).to_have_attribute("data-ready", "yes")
    assert Pad(reader, "queries").now.startswith("Query: class token")


def test_an_outline_beyond_the_photograph_is_drawn_whole(reader):
    box = reader.tab.get_attribute('[data-component="outline"] svg', "viewBox")
    left, top, side, _ = map(float, box.split())
    assert (left, left + side) == (0, 1200)
    assert top <= 0
    assert "Where it leaves the photograph" in reader.tab.text_content('[data-component="outline"]')


@pytest.mark.parametrize("reader", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_the_first_query_is_a_picture(reader):
    assert reader.tab.is_visible('[data-component="queries"] .fallback')
    assert not reader.tab.is_visible('[data-component="queries"] .pad')


@pytest.mark.parametrize("reader", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_on_a_phone_nothing_is_wider_than_the_screen(reader):
    assert reader.tab.evaluate("document.documentElement.scrollWidth") == 360
    assert reader.tab.locator('[data-component="queries"] .pad').bounding_box()["width"] > 280


def test_every_control_has_an_accessible_name(reader):
    assert reader.tab.get_by_role("button", name="Choose a query on the photograph").count() == 1
    assert reader.tab.get_by_role("button", name="Choose an output position on the photograph").count() == 1
    assert reader.tab.get_by_role("combobox", name="Heads").count() == 1
    assert reader.tab.get_by_role("checkbox").count() == 2


@pytest.mark.parametrize(
    ("reader", "label"),
    [({"reduced_motion": "no-preference"}, "Stop the animation"), ({"reduced_motion": "reduce"}, "Play the animation")],
    indirect=["reader"],
)
def test_an_animation_can_be_stopped_and_stands_still_for_those_who_asked_for_calm(reader, label):
    def kind():
        return reader.tab.get_attribute(".film img", "src").partition(";")[0]

    moving = label.startswith("Stop")
    assert reader.tab.text_content(".film button") == label
    assert kind() == ("data:image/gif" if moving else "data:image/jpeg")
    reader.tab.click(".film button")
    assert kind() == ("data:image/jpeg" if moving else "data:image/gif")


def test_axe_finds_nothing_in_components(reader):
    reader.tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert reader.faults() == []


def test_pointing_at_an_component_marks_the_same_place_on_the_maps(reader):
    reader.tab.locator('[data-component="queries"] .pad').hover(position={"x": 50, "y": 50})
    assert not reader.tab.eval_on_selector("#stage .mark", "e => e.hidden")


def test_a_clip_is_shown_frame_by_frame_with_an_animation(reader):
    tab = reader.tab
    assert tab.eval_on_selector(".film img", "e => [e.naturalWidth, e.naturalHeight]") == [2 * 256 + 4, 256 + 34]
    assert tab.locator(".frames td img").count() == 2 * 3
    assert tab.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    assert tab.locator(".frames .shown").count() == 2
    assert tab.locator(".frames thead th").all_text_contents() == ["map", "0.50 s", "1.50 s", "2.50 s"]
