"""Pages: all text is escaped, nothing is loaded, and they are read by mouse, keyboard and on a small screen."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vision_rnn.charts import histogram, line_chart, thinned
from vision_rnn.errors import UserError
from vision_rnn.page import element, figure, fragment, page, picture, section, table, write_page

HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;</script><script>alert(2)</script>"


class Reader(HTMLParser):
    """The tags, attributes and texts of a page, as the standard library reads HTML."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1))
def test_text_and_attributes_come_back_as_they_were(text: str) -> None:
    read = Reader(fragment(element("p", text, title=text)))
    assert read.tags == ["p"]
    assert read.values == [text]
    assert "".join(read.texts) == text


def test_children_keep_their_order() -> None:
    made = element("p", "a", element("b", "c"), "d", "e", element("i"), "f", class_="x", aria_label="y")
    assert fragment(made) == '<p class="x" aria-label="y">a<b>c</b>de<i></i>f</p>'


def test_a_picture_holds_its_pixels() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    made = picture(Image.fromarray(pixels), "a gradient", class_="pixels", width=40)
    assert (made.get("alt"), made.get("width"), made.get("height")) == ("a gradient", "40", "4")
    encoded = made.get("src", "").removeprefix("data:image/png;base64,")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))), pixels)


def test_numbers_of_a_table_are_marked() -> None:
    rows = [element_ for element_ in table(["", "a"], [["x", "-1.5"], ["y", "many"]], "Counts").iter("td")]
    assert [row.get("class") for row in rows] == ["number", None]


def test_a_hostile_text_is_only_text(browser: Any, tmp_path: Path) -> None:
    parts = [
        table([HOSTILE], [[HOSTILE, HOSTILE]], HOSTILE),
        figure(picture(Image.new("RGB", (2, 2)), HOSTILE), HOSTILE),
        line_chart({HOSTILE: [(0, 1), (1, 2)]}, HOSTILE, HOSTILE),
        histogram([HOSTILE], {HOSTILE: [1]}, HOSTILE, HOSTILE),
    ]
    path = tmp_path / "page.html"
    script = "document.body.dataset.ran = 'yes'"
    write_page(path, page(HOSTILE, HOSTILE, [section("Parts", *parts)], script=script))
    browser.open(path)
    assert browser.evaluate("[document.title, document.querySelector('h1').textContent]") == [HOSTILE, HOSTILE]
    assert browser.evaluate("document.querySelectorAll('img[onerror], script').length") == 1
    assert browser.evaluate("document.body.dataset.ran") == "yes"


def test_no_other_script_runs_and_nothing_is_loaded(browser: Any, tmp_path: Path) -> None:
    html = page("Page", "Text", [], script="window.ours = 1")
    for smuggled in ("<img src=x onerror='window.theirs = 1'>", "<script>window.theirs = 1</script>"):
        (tmp_path / "page.html").write_text(html.replace("<main>", f"<main>{smuggled}"), encoding="utf-8")
        browser.open(tmp_path / "page.html")
        assert browser.console_errors() != []
        assert browser.evaluate("[window.ours, window.theirs]") == [1, None]


def test_a_page_is_readable_on_a_small_screen_in_both_schemes(browser: Any, tmp_path: Path) -> None:
    wide = table([f"column {number}" for number in range(12)], [[str(10**9)] * 12], "Wide")
    chart = line_chart({"loss": [(0, 1), (5, 2)]}, "Loss rises.", "step")
    path = tmp_path / "page.html"
    write_page(path, page("A" * 90, "B" * 90, [section("Wide", wide, figure(chart, "C" * 90))]))
    brightness = []
    for dark in (False, True):
        browser.open(path, width=400, dark=dark)
        assert browser.evaluate("document.documentElement.scrollWidth") == 400
        shot = np.asarray(browser.screenshot(tmp_path / "page.png").convert("L"))
        brightness.append(shot[0, 0])
        assert shot.max() - int(shot.min()) > 180  # The text stands out.
    assert brightness[0] > 240
    assert brightness[1] < 40
    from selenium.webdriver.common.keys import Keys

    browser.press(Keys.TAB, Keys.ENTER)
    assert browser.evaluate("location.hash") == "#wide"
    browser.press(Keys.TAB)  # The table is scrolled by keyboard.
    assert browser.evaluate("document.activeElement.getAttribute('aria-label')") == "Wide"


def test_a_name_that_is_not_utf8_is_written(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", page("photo \udcff.jpg", "", []))
    assert "<h1>photo ?.jpg</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_page(tmp_path / "file" / "page.html", "text")


# Charts


def test_a_curve_is_drawn_where_its_points_are() -> None:
    drawn = line_chart({"loss": [(0, 0), (50, 10), (100, 5)]}, "text", "step")
    (curve,) = (path for path in drawn.iter("path") if path.get("class") == "first")
    places = [tuple(map(float, place.split())) for place in curve.get("d", "")[2:].split(" L ")]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 > y2 > y1  # Downwards.
    assert y0 - y2 == pytest.approx(y2 - y1, abs=0.11)
    assert drawn.get("aria-label") == "text"
    labels = [text.text for text in drawn.iter("text")]
    assert {"0", "100", "10", "step", "loss"} <= set(labels)


@pytest.mark.parametrize(
    "points",
    [[(3, 2)], [(0, 5), (1, 5)], [(0, 1e-9), (1e7, 2e-9)], [(0, -4), (1, 1e6)], [(1e18, 1e-13), (1e18, 2e-13)]],
)
def test_odd_ranges_stay_in_the_drawing(points: list[tuple[float, float]]) -> None:
    drawn = line_chart({"loss": points}, "text", "step")
    for circle in drawn.iter("circle"):
        assert 0 <= float(circle.get("cx", "")) <= 380
        assert 0 <= float(circle.get("cy", "")) <= 230


def test_bars_are_as_high_as_their_values() -> None:
    drawn = histogram(["a", "b"], {"one": [1, 4], "two": [0, 2]}, "text", "letter")
    heights = {bar.findtext("title"): float(bar.get("height", "")) for bar in drawn.iter("rect") if len(bar)}
    assert heights["b, one: 4"] == pytest.approx(4 * heights["a, one: 1"], abs=0.3)
    assert heights["b, two: 2"] == pytest.approx(2 * heights["a, one: 1"], abs=0.2)
    assert heights["a, two: 0"] == 0


def test_thinning_keeps_the_mean_and_few_points() -> None:
    points = [(float(step), float(step % 7)) for step in range(1000)]
    few = thinned(points, 100)
    assert len(few) == 100
    assert few[0] == (4.5, sum(step % 7 for step in range(10)) / 10)
    assert thinned(points[:5], 100) == points[:5]
