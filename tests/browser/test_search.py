"""Searching: three columns, the filter, the address, and answers that come late."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import HOSTILE
from tests.browser.page import Page
from tests.browser.server import Server

pytestmark = pytest.mark.slow

QUERY = "How do I bake bread at home?"


def found(server: Server, fusion: str, **options: object) -> list[str]:
    """The texts that the server finds."""
    chosen = {} if fusion == "sum" else {"fusion": fusion}
    answer = server.post("/search", query=QUERY, k=10, **chosen, **options)
    return [hit["text"] for hit in answer["results"]]


def test_three_columns_stand_side_by_side_with_the_server_s_results(page: Page, server: Server) -> None:
    page.open()
    page.search(QUERY)
    boxes = [page.one(f"[data-fusion={fusion}]").rect for fusion in ("hs", "rw", "sum")]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert boxes[1]["x"] + boxes[1]["width"] <= boxes[2]["x"]
    assert len({box["y"] for box in boxes}) == 1
    for fusion in ("hs", "rw", "sum"):
        assert page.hits(fusion) == found(server, fusion)
        scores = page.scores(fusion)
        assert len(scores) == 10
        assert scores == sorted(scores, reverse=True)


def test_every_column_is_explained_in_plain_words(page: Page) -> None:
    page.open()
    page.search(QUERY)
    for fusion in ("hs", "rw", "sum"):
        assert len(page.text(f"[data-fusion={fusion}] .about").split()) >= 10
        hidden = f"[data-fusion={fusion}] details p"
        assert not page.shows(hidden)
        page.click(f"[data-fusion={fusion}] summary")
        assert page.shows(hidden)


def test_all_results_are_a_button_away(page: Page) -> None:
    page.open()
    page.search(QUERY)
    assert page.text("#more") == "Show all 50"
    page.click("#more")
    assert len(page.hits("sum")) == len(page.hits("hs")) == 50
    page.click("#more")
    assert len(page.hits("sum")) == 10


def test_the_page_before_the_first_question_offers_one(page: Page) -> None:
    page.open()
    assert page.text("#search-state h2") == "Search by what a model makes of a text"
    page.click("#search-state button.chip")
    page.wait_results()
    assert page.js("return document.querySelector('#query').value") == QUERY
    assert page.text("#server-text") == "fake · 73 texts"


def test_texts_never_become_markup(page: Page) -> None:
    page.open()
    page.search(HOSTILE)
    assert HOSTILE in page.hits("sum")
    assert not page.all("main img")
    assert page.driver.title == f"{HOSTILE} – moee explorer"
    assert "<i>odd</i>" in page.js("return document.querySelector('[data-id=hostile] .chips').textContent")


def test_a_filter_narrows_every_column(page: Page, server: Server) -> None:
    page.open()
    page.search(QUERY, where='topic == "cooking"')
    for fusion in ("hs", "rw", "sum"):
        assert page.hits(fusion) == found(server, fusion, filter='topic == "cooking"')
    assert len(page.hits("sum")) == 8
    assert "topic (string), place (integer)" in page.text("#filter-fields")


def test_a_wrong_filter_is_explained_under_it_until_it_is_right(page: Page) -> None:
    page.expected = ["status of 422"]
    page.open()
    page.fill("#filter", 'topi == "cooking"')
    page.fill("#query", QUERY)
    page.press(Keys.ENTER)
    page.wait(lambda: page.shows("#filter-error"), "the error of the filter")
    assert "'topi'" in page.text("#filter-error")
    assert "topic" in page.text("#filter-error")
    assert page.attribute("#filter", "aria-invalid") == "true"
    assert page.focused() == page.one("#filter")
    page.search(QUERY, where='topic == "cooking"')
    assert not page.shows("#filter-error")
    assert page.attribute("#filter", "aria-invalid") == "false"


def test_a_filter_that_leaves_nothing_says_so(page: Page) -> None:
    page.open()
    page.fill("#filter", "place > 5000")
    page.fill("#query", QUERY)
    page.press(Keys.ENTER)
    page.wait(lambda: page.text("#search-state").startswith("Nothing passes the filter"), "the empty state")
    assert not page.shows("#results")


def test_a_link_shows_the_same_again(page: Page, server: Server) -> None:
    page.open()
    page.search(QUERY, where="place < 40")
    page.weigh(rw=2)
    page.wait_exact()
    page.wait(lambda: "rw=2" in page.driver.current_url, "the weight in the address")
    shown = page.hits("sum")
    page.driver.get("about:blank")
    page.driver.back()
    page.wait_results()
    assert page.hits("sum") == shown == found(server, "sum", weights={**server.weights, "rw": 2}, filter="place < 40")
    assert page.js("return document.querySelector('#filter').value") == "place < 40"


def test_going_back_returns_to_the_question_before(page: Page) -> None:
    page.open()
    page.search(QUERY)
    first = page.hits("hs")
    page.search("A puppy is sleeping by the fire.")
    page.wait(lambda: page.hits("hs") != first, "other results")
    page.driver.back()
    page.wait(lambda: page.hits("hs") == first, "the first results")
    assert page.js("return document.querySelector('#query').value") == QUERY


@pytest.mark.parametrize("given", ["rw=-1", "alpha=-1", "lexical=x"])
def test_a_weight_in_the_address_that_is_none_is_named(page: Page, given: str) -> None:
    page.open(f"?{given}&q=bread")
    page.wait_results()
    assert given in page.text("#weight-error")


def test_a_late_answer_does_not_overwrite_a_newer_one(page: Page) -> None:
    page.open()
    # at the border to the network: what asks for "slow" is kept back until the test lets it go, even when aborted
    page.js(
        """
        const real = window.fetch;
        window.kept = [];
        window.fetch = async (path, options) => {
          const response = await real(path, { ...options, signal: undefined });
          if (options?.body?.includes("slow")) await new Promise((resolve) => window.kept.push(resolve));
          return response;
        };
        """
    )
    page.fill("#query", "slow bread")
    page.press(Keys.ENTER)
    page.wait(lambda: page.js("return window.kept.length") == 1, "the slow answer to be kept back")
    page.search("A puppy is sleeping by the fire.")
    shown = page.hits("sum")
    page.driver.execute_async_script(
        "const done = arguments[0]; window.kept.forEach((go) => go()); setTimeout(done, 200);"
    )
    assert page.hits("sum") == shown
    assert page.js("return window.kept.length") == 1, "the older search went on"


def test_words_for_ears_say_what_was_found(page: Page) -> None:
    page.open()
    page.search(QUERY)
    live = page.js("return document.querySelector('#live').textContent")
    assert "texts found" in live
    assert page.hits("sum")[0] in live
    assert page.attribute("#live", "aria-live") == "polite"
