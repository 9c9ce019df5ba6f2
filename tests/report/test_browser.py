"""The page of an explanation in a real browser."""

import pytest
from chromium import NEEDED, opened

from attnviz.report import describe
from attnviz.report.explanation import html

pytestmark = NEEDED

OVERLAY = "#pane-a .overlay"


@pytest.fixture(scope="module")
def address(explanation, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    html.write(describe(explanation), path)
    return path.as_uri()


@pytest.fixture
def page(browser, address, request):
    with opened(browser, address, **getattr(request, "param", {})) as one:
        yield one


def test_it_opens_from_a_file_without_errors_or_network_requests(page):
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith(("file://", "data:"))] == []
    broken = page.tab.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length")
    assert broken == 0


def test_the_slider_changes_the_opacity_of_the_overlay(page):
    assert page.style(OVERLAY, "opacity") == "0.5"
    for value in (0, 80, 100):
        page.set_slider(value)
        assert float(page.style(OVERLAY, "opacity")) == pytest.approx(value / 100)
        assert page.tab.text_content("#opacity-value") == f"{value} %"
    assert page.errors == []


def test_the_slider_changes_the_rendered_image(page):
    pane = page.tab.locator("#pane-a")
    page.set_slider(0)
    plain = pane.screenshot()
    page.set_slider(100)
    assert pane.screenshot() != plain
    page.set_slider(0)
    assert pane.screenshot() == plain


def test_the_slider_works_with_the_keyboard(page):
    page.tab.focus("#opacity")
    page.tab.keyboard.press("End")
    assert page.style(OVERLAY, "opacity") == "1"
    page.tab.keyboard.press("ArrowLeft")
    assert float(page.style(OVERLAY, "opacity")) == pytest.approx(0.99)


def test_a_selected_map_is_shown_with_its_scale_and_meaning(page):
    before = page.tab.get_attribute(OVERLAY, "src")
    page.select_map("integrated_gradients")
    assert page.tab.get_attribute(OVERLAY, "src") != before
    assert page.tab.get_attribute(OVERLAY, "alt") == "Map of Integrated Gradients"
    assert page.title == "Integrated Gradients"
    assert "baseline" in page.text("means")
    assert page.text("middle") == "0"
    page.select_map("gradcam")
    assert page.text("middle") == ""
    assert page.errors == []


def test_maps_can_be_selected_with_the_keyboard(page):
    page.tab.focus('input[name="map"]:checked')
    first = page.title
    page.tab.keyboard.press("ArrowRight")
    assert page.title != first


def test_a_small_map_can_be_enlarged(page):
    page.tab.click('button[data-map="saliency"]')
    assert page.title == "Saliency"
    assert page.tab.is_checked('input[value="saliency"]')


@pytest.mark.parametrize(
    ("page", "dark"), [({"color_scheme": "light"}, False), ({"color_scheme": "dark"}, True)], indirect=["page"]
)
def test_the_colour_scheme_follows_the_system_and_can_be_switched(page, dark):
    def is_dark():
        red = int(page.style("body", "backgroundColor").split("(")[1].split(",")[0])
        return red < 128

    assert is_dark() is dark
    page.tab.click("#theme")
    assert is_dark() is not dark
    page.tab.click("#theme")
    assert is_dark() is dark


@pytest.mark.parametrize("page", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_on_a_phone_nothing_is_wider_than_the_screen(page):
    assert page.tab.evaluate("document.documentElement.scrollWidth") == 360
    assert page.tab.locator("#pane-a").bounding_box()["width"] > 300


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_on_a_phone_the_names_of_table_rows_are_readable_and_wide_tables_scroll(page):
    page.open_all_details()
    cells = page.tab.evaluate("""[...document.querySelectorAll('table th[scope="row"]')].map(cell => {
        const style = getComputedStyle(cell);
        const inner = cell.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        const scroll = cell.closest(".scroll");
        return [cell.innerText, cell.clientHeight / parseFloat(style.fontSize), inner / parseFloat(style.fontSize),
                cell.clientWidth / scroll.clientWidth, scroll.scrollWidth > scroll.clientWidth];
    })""")
    assert len(cells) > 20
    for name, lines, characters, share, scrolls in cells:
        assert characters > 6, name  # in units of the font size: about twelve letters in a line
        assert lines < 8, name  # three lines of a name and one of a class
        assert share < 0.5, name  # the first column is sticky: the numbers need room beside it
        assert scrolls, name
    assert page.tab.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_the_first_map_and_all_tables_are_visible(page):
    assert page.tab.is_visible(OVERLAY)
    assert page.tab.is_visible("table.matrix")


def test_every_control_has_an_accessible_name(page):
    for role in ("slider", "radio", "button"):
        assert page.tab.get_by_role(role).all()
    assert page.tab.get_by_role("slider", name="Overlay").count() == 1
    assert page.tab.get_by_role("radio", name="Grad-CAM").count() == 1
    assert page.tab.get_by_role("button", name="Enlarge Saliency").count() == 1


def test_html_in_a_file_name_is_not_executed(browser, html_name, tmp_path):
    html.write(describe(html_name), tmp_path / "r.html")
    with opened(browser, (tmp_path / "r.html").as_uri()) as page:
        assert page.errors == []
        assert page.tab.evaluate("document.querySelectorAll('img[onerror]').length") == 0
