"""How the page looks and is used: narrow, dark, by keys alone, without motion, and by axe-core's rules."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.page import Page, axe

pytestmark = pytest.mark.slow

QUERY = "How do I bake bread at home?"
ADDRESSES = {
    "search": "?q=bread",
    "welcome": "",
    "compare": "?a=one+cat&b=two+cats#compare",
    "map": "?q=bread#map",
}


def settle(page: Page, view: str) -> None:
    """Open a view and wait until it is complete."""
    page.open(ADDRESSES[view])
    if view == "search":
        page.wait_results()
    elif view == "compare":
        page.wait(lambda: page.painted("#heat") > 5, "the heat map")
    elif view == "map":
        page.wait(lambda: page.painted("#map") > 20 and len(page.all("#lit .row")) == 10, "the map")


def background(page: Page) -> str:
    return str(page.js("return getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize("view", list(ADDRESSES))
@pytest.mark.parametrize("width", [400, 320])
def test_a_narrow_screen_never_scrolls_sideways(page: Page, view: str, width: int) -> None:
    page.size(width, 800)
    settle(page, view)
    assert page.overflow() == 0


def test_a_narrow_screen_shows_one_column_at_a_time(page: Page) -> None:
    page.size(400, 800)
    settle(page, "search")
    assert [page.shows(f"[data-fusion={fusion}]") for fusion in ("hs", "rw", "sum")] == [False, False, True]
    page.click("input[name=column][value=rw]")
    assert [page.shows(f"[data-fusion={fusion}]") for fusion in ("hs", "rw", "sum")] == [False, True, False]


def test_long_words_and_texts_stay_inside(page: Page) -> None:
    page.size(400, 800)
    page.open("#compare")
    page.fill("#text-a", "x" * 600)
    page.fill("#text-b", "y" * 600)
    page.press(Keys.ENTER)
    page.wait(lambda: page.shows("#explanation"), "the explanation")
    assert page.overflow() == 0


def test_dark_follows_the_system_and_the_button(page: Page) -> None:
    settle(page, "compare")
    picture = "return document.querySelector('#heat canvas').toDataURL()"
    light, light_chart = background(page), page.js(picture)
    page.prefers(color_scheme="dark")
    page.wait(lambda: background(page) != light, "the dark page")
    page.wait(lambda: page.js(picture) != light_chart, "the dark chart")
    dark = background(page)
    page.click("#theme")
    assert background(page) == light
    page.open()
    assert background(page) == light, "the choice is kept"
    page.click("#theme")
    assert background(page) == dark
    assert page.attribute("#theme", "aria-pressed") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", list(ADDRESSES))
def test_axe_finds_nothing(page: Page, view: str, scheme: str) -> None:
    page.prefers(color_scheme=scheme, reduced_motion="reduce")
    settle(page, view)
    if view == "search":
        page.click("[data-fusion=hs] .hit-main")
        page.click("[data-fusion=hs] summary")
    assert axe(page) == []


def test_axe_would_find_something(page: Page) -> None:
    page.open()
    page.js("document.querySelector('label[for=query]').remove(); document.querySelector('#query').placeholder = ''")
    page.js("document.querySelector('.foot').style.color = 'rgb(170 170 170)'")
    assert {line.split(":")[0] for line in axe(page)} >= {"label", "color-contrast"}


def test_axe_finds_nothing_in_the_help_or_on_a_narrow_screen(page: Page) -> None:
    page.size(400, 800)
    page.prefers(reduced_motion="reduce")
    settle(page, "search")
    assert axe(page) == []
    page.press("?")
    assert page.shows("#help")
    assert axe(page) == []


def test_everything_is_reached_by_keys_alone(page: Page) -> None:
    page.open()
    page.js("document.body.focus()")
    page.press("/")
    assert page.focused() == page.one("#query")
    page.press(QUERY, Keys.ENTER)
    page.wait_results()
    page.press(Keys.ARROW_DOWN)
    assert page.focused() == page.all("[data-fusion=hs] .hit-main")[0]
    page.press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert page.focused() == page.all("[data-fusion=rw] .hit-main")[1]
    first = page.hits("rw")[1]
    page.press(Keys.ENTER)
    page.press(Keys.ARROW_RIGHT, Keys.END)
    assert page.focused() == page.all("[data-fusion=sum] .hit-main")[-1]
    page.press(Keys.HOME, Keys.ARROW_UP)
    assert page.focused() == page.one("#query")
    page.press(Keys.ARROW_DOWN)
    second = next(text for text in page.hits("hs") if text != first)
    for _ in range(page.hits("hs").index(second)):
        page.press(Keys.ARROW_DOWN)
    page.press(Keys.ENTER)
    page.wait(lambda: page.shows("#explanation"), "the explanation")
    assert page.js("return document.querySelector('#text-a').value") == first
    assert page.js("return document.querySelector('#text-b').value") == second
    page.press("/")
    assert page.focused() == page.one("#query")
    assert page.shows("#results")
    page.press(Keys.ARROW_DOWN, "w")
    page.wait(lambda: page.js("return document.querySelector('#text-a').value") == QUERY, "the query as first text")


def test_tab_passes_each_column_once(page: Page) -> None:
    settle(page, "search")
    page.js("document.querySelector('[data-fusion=hs] .hit-main').focus()")
    page.press(Keys.TAB)
    assert page.focused() == page.one("[data-fusion=hs] .why")
    page.press(Keys.TAB)
    assert page.focused() == page.one("[data-fusion=rw] summary")


def test_the_focus_is_seen(page: Page) -> None:
    settle(page, "search")
    page.press("/")
    for css in ("#go", "#weight-lexical-number", "[data-fusion=hs] summary"):
        for _ in range(30):
            if page.focused() == page.one(css):
                break
            page.press(Keys.TAB)
        assert page.focused() == page.one(css), f"Tab never comes to {css}"
        assert page.js("return parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


def test_escape_forgets_what_was_chosen(page: Page) -> None:
    settle(page, "search")
    page.click("[data-fusion=hs] .hit-main")
    assert page.shows("#tray")
    page.press(Keys.ESCAPE)
    assert not page.shows("#tray")
    assert page.attribute("[data-fusion=hs] .hit-main", "aria-pressed") == "false"


@pytest.mark.parametrize(("preference", "moves"), [("no-preference", True), ("reduce", False)])
def test_texts_glide_only_where_motion_is_welcome(page: Page, preference: str, moves: bool) -> None:
    page.prefers(reduced_motion=preference)
    settle(page, "search")
    running = page.js(
        """
        const slider = document.querySelector("#weight-rw");
        slider.value = "2";
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        return document.getAnimations().length;
        """
    )
    assert (running > 0) is moves


def test_the_api_is_linked_and_nothing_comes_from_elsewhere(page: Page) -> None:
    settle(page, "map")
    assert page.js("return document.querySelector('.foot a').href") == f"{page.url}/openapi.json"
    loaded = page.js("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert any("echarts" in name for name in loaded)
    assert all(name.startswith(page.url) for name in loaded)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (Path(str(files("moee.serve"))) / "explorer" / "vendor", "echarts.esm.min.js"),
        (Path(__file__).parent / "axe", "axe.min.js"),
    ],
)
def test_code_of_others_is_what_its_attribution_says(folder: Path, name: str) -> None:
    stated = re.findall(r"`([0-9a-f]{64})`", (folder / "ATTRIBUTION.md").read_text(encoding="utf-8"))
    assert stated == [hashlib.sha256((folder / name).read_bytes()).hexdigest()]
    assert (folder / "LICENSE").stat().st_size > 5000
