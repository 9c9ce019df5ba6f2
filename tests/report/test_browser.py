"""The page in a real browser: what a reader does with it."""

import pytest
from chromium import NEEDED, Reader

from attnviz.report import describe
from attnviz.report.explanation import html

pytestmark = NEEDED

OVERLAY = "#stage .overlay"


@pytest.fixture(scope="module")
def address(explanation, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    html.write(describe(explanation), path)
    return path.as_uri()


@pytest.fixture
def reader(browser, address, request):
    context = browser.new_context(**getattr(request, "param", {}))
    yield Reader(context.new_page(), address)
    context.close()


def test_it_opens_from_a_file_without_errors_and_asks_the_network_for_nothing(reader):
    assert reader.troubles == []
    assert [url for url in reader.requests if not url.startswith(("file://", "data:"))] == []
    broken = reader.tab.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length")
    assert broken == 0


def test_the_slider_changes_the_overlays_opacity(reader):
    assert reader.style(OVERLAY, "opacity") == "0.5"
    for value in (0, 80, 100):
        reader.set_slider(value)
        assert float(reader.style(OVERLAY, "opacity")) == pytest.approx(value / 100)
        assert reader.tab.text_content("#opacity-value") == f"{value} %"
    assert reader.troubles == []


def test_the_slider_changes_what_is_seen(reader):
    stage = reader.tab.locator("#stage")
    reader.set_slider(0)
    photo = stage.screenshot()
    reader.set_slider(100)
    assert stage.screenshot() != photo
    reader.set_slider(0)
    assert stage.screenshot() == photo


def test_the_slider_works_from_the_keyboard(reader):
    reader.tab.focus("#opacity")
    reader.tab.keyboard.press("End")
    assert reader.style(OVERLAY, "opacity") == "1"
    reader.tab.keyboard.press("ArrowLeft")
    assert float(reader.style(OVERLAY, "opacity")) == pytest.approx(0.99)


def test_choosing_a_map_shows_it_with_its_scale_and_its_meaning(reader):
    before = reader.tab.get_attribute(OVERLAY, "src")
    reader.choose("integrated_gradients")
    assert reader.tab.get_attribute(OVERLAY, "src") != before
    assert reader.tab.get_attribute(OVERLAY, "alt") == "Map of Integrated Gradients"
    assert reader.title == "Integrated Gradients"
    assert "baseline" in reader.told("means")
    assert reader.told("middle") == "0"
    reader.choose("gradcam")
    assert reader.told("middle") == ""
    assert reader.troubles == []


def test_maps_can_be_chosen_from_the_keyboard(reader):
    reader.tab.focus('input[name="map"]:checked')
    first = reader.title
    reader.tab.keyboard.press("ArrowRight")
    assert reader.title != first


def test_a_small_map_shows_itself_large(reader):
    reader.tab.click('button[data-map="saliency"]')
    assert reader.title == "Saliency"
    assert reader.tab.is_checked('input[value="saliency"]')


@pytest.mark.parametrize(
    ("reader", "dark"), [({"color_scheme": "light"}, False), ({"color_scheme": "dark"}, True)], indirect=["reader"]
)
def test_it_follows_the_readers_colours_and_can_be_switched(reader, dark):
    def is_dark():
        red = int(reader.style("body", "backgroundColor").split("(")[1].split(",")[0])
        return red < 128

    assert is_dark() is dark
    reader.tab.click("#theme")
    assert is_dark() is not dark
    reader.tab.click("#theme")
    assert is_dark() is dark


@pytest.mark.parametrize("reader", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_on_a_phone_nothing_is_wider_than_the_screen(reader):
    assert reader.tab.evaluate("document.documentElement.scrollWidth") == 360
    assert reader.tab.locator("#stage").bounding_box()["width"] > 300


@pytest.mark.parametrize("reader", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_the_first_map_and_all_tables_are_there(reader):
    assert reader.tab.is_visible(OVERLAY)
    assert reader.tab.is_visible("table.matrix")


def test_every_control_has_an_accessible_name(reader):
    for role in ("slider", "radio", "button"):
        controls = reader.tab.get_by_role(role).all()
        assert controls
    assert reader.tab.get_by_role("slider", name="Overlay").count() == 1
    assert reader.tab.get_by_role("radio", name="Grad-CAM").count() == 1
    assert reader.tab.get_by_role("button", name="Show Saliency large").count() == 1


def test_a_hostile_file_name_runs_nothing(browser, hostile, tmp_path):
    html.write(describe(hostile), tmp_path / "r.html")
    context = browser.new_context()
    reader = Reader(context.new_page(), (tmp_path / "r.html").as_uri())
    assert reader.troubles == []
    assert reader.tab.evaluate("document.querySelectorAll('img[onerror]').length") == 0
    context.close()
