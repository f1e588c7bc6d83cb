"""The map: points, topics, lit hits, hover and clicks."""

from __future__ import annotations

from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.browser.page import Page
from tests.browser.server import Server

pytestmark = pytest.mark.slow

QUERY = "How do I bake bread at home?"


def open_map(page: Page, address: str = "") -> Page:
    page.open(f"{address}#map")
    page.wait(lambda: page.painted("#map") > 20, "the map")
    return page


def place_of(page: Page, x: float, y: float) -> tuple[int, int]:
    """Where a point of the map lies, from the middle of its box, in pixels."""
    found = page.driver.execute_async_script(
        """
        const [x, y, done] = arguments;
        import("./static/vendor/echarts.esm.min.js").then((echarts) => {
          const box = document.querySelector("#map");
          box.scrollIntoView({ block: "center", behavior: "instant" });
          const [left, top] = echarts.getInstanceByDom(box).convertToPixel({ xAxisIndex: 0, yAxisIndex: 0 }, [x, y]);
          done([Math.round(left - box.clientWidth / 2), Math.round(top - box.clientHeight / 2)]);
        });
        """,
        x,
        y,
    )
    return found[0], found[1]


def move_to(page: Page, at: tuple[int, int]) -> ActionChains:
    return ActionChains(page.driver, duration=0).move_to_element_with_offset(page.one("#map"), *at)


def lonely(points: dict[str, Any]) -> int:
    """The place of the point that is farthest from its nearest neighbour."""

    def gap(a: int) -> float:
        x, y = points["x"], points["y"]
        return min((x[a] - x[b]) ** 2 + (y[a] - y[b]) ** 2 for b in range(len(x)) if b != a)

    return max(range(len(points["x"])), key=gap)


def test_the_hits_of_a_search_are_lit(page: Page, server: Server) -> None:
    open_map(page, "?q=How+do+I+bake+bread+at+home%3F")
    page.wait(lambda: len(page.all("#lit .row")) == 10, "the list of lit texts")
    found = server.post("/search", query=QUERY, k=10)["results"]
    listed = [row.text for row in page.all("#lit .row-text")]
    assert listed == [hit["text"] for hit in found]
    picture = "return document.querySelector('#map canvas').toDataURL()"
    before = page.js(picture)
    page.click("input[name=lit][value=rw]")
    found = server.post("/search", query=QUERY, k=10, fusion="rw")["results"]
    assert [row.text for row in page.all("#lit .row-text")] == [hit["text"] for hit in found]
    page.wait(lambda: page.js(picture) != before, "other points to light up")


def test_searching_from_the_map_stays_there(page: Page) -> None:
    open_map(page)
    assert "Search above" in page.text("#lit")
    page.fill("#query", QUERY)
    page.press(Keys.ENTER)
    page.wait(lambda: len(page.all("#lit .row")) == 10, "the list of lit texts")
    assert page.driver.current_url.endswith("#map")


def test_a_point_tells_its_text_and_a_click_chooses_it(page: Page, server: Server) -> None:
    points = server.get("/map")
    at = lonely(points)
    open_map(page)
    page.wait(lambda: not page.js("return document.querySelector('#map').getAnimations().length"), "the map to rest")
    move_to(page, place_of(page, points["x"][at], points["y"][at])).perform()
    page.wait(lambda: page.shows(".chart-tip"), "the point's text")
    assert page.text(".chart-tip span") == points["texts"][at]
    move_to(page, place_of(page, points["x"][at], points["y"][at])).click().perform()
    page.wait(lambda: page.shows("#tray"), "the chosen text")
    assert page.text("#tray-list .tray-text") == points["texts"][at]


def test_a_lit_text_is_chosen_by_keys(page: Page) -> None:
    open_map(page, "?q=bread")
    page.wait(lambda: len(page.all("#lit .row")) == 10, "the list of lit texts")
    text = page.text("#lit .row-text")
    page.js("document.querySelector('#lit .row').focus()")
    page.wait(lambda: page.shows(".chart-tip"), "the point's text")
    assert page.text(".chart-tip strong") == "Hit 1"
    page.press(Keys.ENTER)
    assert page.text("#tray-list .tray-text") == text
    assert page.attribute("#lit .row", "aria-pressed") == "true"
    assert page.focused() == page.one("#lit .row")


def test_topics_are_listed_with_their_numbers(page: Page, server: Server) -> None:
    points = server.get("/map")
    topics = sorted(points["topics"], key=lambda topic: -topic["count"])
    open_map(page)
    rows = [(row.text, int(count.text)) for row, count in zip(
        page.all("#topics .row-text"), page.all("#topics .row-number"), strict=True
    )]  # fmt: skip
    assert rows[: len(topics)] == [(topic["label"], topic["count"]) for topic in topics]
    alone = points["topic"].count(-1)
    assert rows[len(topics) :] == ([("in no topic", alone)] if alone else [])
    assert sum(count for _, count in rows) == len(points["ids"])


def test_the_map_zooms_by_buttons_and_topics(page: Page) -> None:
    open_map(page)
    width = """
        const done = arguments[0];
        import("./static/vendor/echarts.esm.min.js").then((echarts) => {
          const { start, end } = echarts.getInstanceByDom(document.querySelector("#map")).getOption().dataZoom[0];
          done(end - start);
        });
        """
    shown = page.driver.execute_async_script
    assert shown(width) == 100
    page.click("#zoom-in")
    page.wait(lambda: shown(width) == pytest.approx(100 / 1.6), "a closer look")
    page.click("#zoom-reset")
    page.wait(lambda: shown(width) == 100, "the whole map")
    page.click("#topics .row", len(page.all("#topics .row")) - 1)
    page.wait(lambda: shown(width) < 100, "the topic")
    page.click("#zoom-reset")
    page.wait(lambda: shown(width) == 100, "the whole map")
