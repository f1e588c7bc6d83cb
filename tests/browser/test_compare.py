"""Two texts: what makes them alike, by view, layer, expert and word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.page import Page, number, tab
from tests.browser.server import Server, run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.slow

QUERY = "How do I bake bread at home?"


def shown(page: Page) -> tuple[float, dict[str, float]]:
    """Similarity, and the part of each view."""
    page.wait(lambda: page.shows("#explanation"), "the explanation")
    # read in one script: the rows are made anew whenever an answer comes
    script = "return [...document.querySelectorAll('#parts-table tr')].map((row) => "
    script += "[row.dataset.part, row.querySelector('.strong').textContent])"
    parts = {str(view): str(part) for view, part in page.js(script)}
    return number(page.text("#similarity")), {view: number(part) for view, part in parts.items()}


def parts_of(exact: dict[str, Any]) -> dict[str, float]:
    """The parts of an explanation of the server; views that were left out add nothing."""
    return dict.fromkeys(("hs", "rw", "tokens", "lexical"), 0.0) | {
        view: each["part"] for view, each in exact["views"].items()
    }


def texts(page: Page) -> list[str]:
    return [page.js(f"return document.querySelector('#text-{letter}').value") for letter in "ab"]


def test_choosing_two_results_opens_what_they_share(page: Page, server: Server) -> None:
    page.open()
    page.search(QUERY)
    first = page.hits("hs")[0]
    place, second = next((place, text) for place, text in enumerate(page.hits("rw")) if text != first)
    page.click("[data-fusion=hs] .hit-main", 0)
    assert page.text("#tray-list .tray-text") == first
    assert page.attribute("[data-fusion=hs] .hit-main", "aria-pressed") == "true"
    page.click("[data-fusion=rw] .hit-main", place)
    similarity, parts = shown(page)
    assert texts(page) == [first, second]
    assert page.focused() == page.one("#compare-title")
    exact = server.post("/explain", texts=[first, second], weights=server.weights)
    assert similarity == pytest.approx(exact["similarity"], abs=6e-4)
    assert parts == pytest.approx(parts_of(exact), abs=6e-4)
    assert sum(parts.values()) == pytest.approx(similarity, abs=2.1e-3)
    page.wait(lambda: page.painted("#heat") > 20, "the heat map")


def test_bars_compare_the_views(page: Page) -> None:
    page.open()
    page.search(QUERY)
    page.weigh(rw=1, lexical=0)
    page.wait_exact()
    page.click("[data-fusion=sum] .why")
    _, parts = shown(page)
    widths = [bar.rect["width"] for bar in page.all("#parts-table .bar-fill")]
    assert widths[0] / widths[1] == pytest.approx(abs(parts["hs"]) / abs(parts["rw"]), rel=0.05)


def test_words_that_both_texts_share_are_shown_with_what_they_add(page: Page, server: Server) -> None:
    pair = ["Baking bread in the ovens of old", "She bakes fresh breads"]
    page.open("?a=Baking+bread+in+the+ovens+of+old&b=She+bakes+fresh+breads#compare")
    _, parts = shown(page)
    exact = server.post("/explain", texts=pair, weights=server.weights)
    words = {" / ".join(dict.fromkeys(word["forms"])): word["part"] for word in exact["words"]}
    assert set(words) == {"baking / bakes", "bread / breads"}
    if abs(exact["collisions"]) >= 5e-4:
        words["other words that share a coordinate"] = exact["collisions"]
    listed = [chip.text.rsplit(" ", 1) for chip in page.all("#words-list .chip")]
    assert {name: number(part) for name, part in listed} == pytest.approx(words, abs=6e-4)
    assert sum(words.values()) == pytest.approx(parts["lexical"], abs=1.1e-3)
    page.weigh(lexical=0)
    page.wait(lambda: not page.shows("#words"), "no words where they do not count")
    page.open("?a=one&b=two#compare")
    shown(page)
    assert page.text("#words-list") == "None."


def test_why_compares_a_result_with_the_query(page: Page) -> None:
    page.open()
    page.search(QUERY)
    result = page.hits("sum")[2]
    page.click("[data-fusion=sum] .why", 2)
    shown(page)
    assert texts(page) == [QUERY, result]


@pytest.fixture
def prompted(tmp_path: Path, corpus: Path, environment: dict[str, str]) -> Iterator[Server]:
    """A server over an index whose queries and texts have prompts of their own."""
    prompts = ("--query-prompt", "Question: {text}", "--document-prompt", "Answer: {text}")
    columns = ("--id-column", "id", "--fields", "topic,place")
    run(
        "index", "build", corpus, "--out", tmp_path / "index", "-m", "fake", *columns, *prompts, environment=environment
    )
    server = Server("--index", tmp_path / "index", environment=environment, log=tmp_path / "log").start()
    yield server
    server.stop()


def test_why_explains_the_score_that_a_result_was_found_by(browser: Chrome, prompted: Server) -> None:
    with tab(browser, prompted.url) as page:
        page.open()
        page.search(QUERY)
        results, score = page.hits("sum"), page.scores("sum")[0]
        page.click("[data-fusion=sum] .why", 0)
        assert shown(page)[0] == pytest.approx(score, abs=6e-3)
        pair = {"texts": [QUERY, results[0]], "weights": prompted.weights}
        exact = prompted.post("/explain", **pair, as_query=True)["similarity"]
        alike = prompted.post("/explain", **pair)["similarity"]
        assert abs(exact - alike) > 2e-3, "premise: the prompts make a difference"
        assert shown(page)[0] == pytest.approx(exact, abs=6e-4)
        page.driver.refresh()  # the address says all that it takes
        assert shown(page)[0] == pytest.approx(exact, abs=6e-4)
        page.click("[data-view=search]")
        page.wait_results()
        page.click("#tray-clear")
        for place in (0, 1):
            page.click("[data-fusion=sum] .hit-main", place)
        alike = prompted.post("/explain", texts=results[:2], weights=prompted.weights)["similarity"]
        page.wait(lambda: number(page.text("#similarity")) == pytest.approx(alike, abs=6e-4), "two texts of the index")
        page.check_console()


def test_experts_are_listed_as_the_server_ranks_them(page: Page, server: Server) -> None:
    page.open("?a=one+cat&b=two+cats#compare")
    shown(page)
    exact = server.post("/explain", texts=["one cat", "two cats"], weights=server.weights)["top_experts"]
    rows = [row.text.split() for row in page.all("#top-table tr")]
    assert [(int(row[0]), int(row[1])) for row in rows] == [(each["layer"], each["expert"]) for each in exact]
    assert [number(row[2]) for row in rows] == pytest.approx([each["part"] for each in exact], abs=6e-5)


def test_a_row_of_the_list_finds_its_square_and_arrows_go_through_the_rows(page: Page) -> None:
    page.open("?a=one+cat&b=two+cats#compare")
    shown(page)
    page.wait(lambda: page.painted("#heat") > 5, "the heat map")
    page.js("document.querySelector('#top-table tr').focus()")
    page.press(Keys.ARROW_DOWN)
    layer, expert = page.focused().text.split()[:2]
    page.wait(lambda: page.shows(".chart-tip"), "the square's description")
    assert page.text(".chart-tip strong") == f"Layer {layer}, expert {expert}"


def test_typed_texts_are_compared(page: Page) -> None:
    page.open("#compare")
    page.fill("#text-a", "A cat sat down.")
    page.fill("#text-b", "A kitten took a seat.")
    page.press(Keys.ENTER)
    assert shown(page)[0] > 0
    assert "a=A+cat+sat+down." in page.driver.current_url
    before = page.text("#similarity")
    page.click("#swap")
    assert texts(page) == ["A kitten took a seat.", "A cat sat down."]
    page.wait(lambda: page.text("#similarity") == before, "the same similarity the other way round")


def test_a_text_that_is_missing_is_asked_for(page: Page) -> None:
    page.open("#compare")
    page.fill("#text-a", "A cat sat down.")
    page.click("#pair button[type=submit]")
    assert page.text("#pair-error") == "Text B is empty. Type one, or choose it from the results."
    assert page.focused() == page.one("#text-b")


def test_the_sliders_change_the_parts_at_once(page: Page, server: Server) -> None:
    page.open("?a=one+cat&b=two+cats#compare")
    _, before = shown(page)
    page.weigh(rw=1)
    similarity, parts = shown(page)
    exact = server.post("/explain", texts=["one cat", "two cats"], weights={**server.weights, "rw": 1})
    assert parts == pytest.approx(parts_of(exact), abs=6e-4)
    assert similarity == pytest.approx(exact["similarity"], abs=6e-4)
    assert before != parts
    page.wait(lambda: "rw=1" in page.driver.current_url, "the weight in the address")
    assert number(page.text("#similarity")) == pytest.approx(exact["similarity"], abs=6e-4)


def test_a_view_that_was_left_out_is_asked_for(page: Page, server: Server) -> None:
    page.open("?a=one+cat&b=two+cats&hs=1#compare")
    assert shown(page)[1]["rw"] == 0
    page.weigh(rw=1)
    exact = server.post("/explain", texts=["one cat", "two cats"], weights={"hs": 1, "rw": 1})
    page.wait(lambda: number(page.text("#similarity")) == pytest.approx(exact["similarity"], abs=6e-4), "the answer")


@pytest.mark.parametrize("choice", ["a", "b", "difference"])
def test_the_heat_map_shows_weights_too(page: Page, choice: str) -> None:
    page.open("?a=one+cat&b=two+cats#compare")
    shown(page)
    page.wait(lambda: page.painted("#heat") > 5, "the heat map")
    picture = "return document.querySelector('#heat canvas').toDataURL()"
    before, about = page.js(picture), page.text("#heat-about")
    page.click(f"input[name=heat][value={choice}]")
    page.wait(lambda: page.js(picture) != before, "another heat map")
    assert page.text("#heat-about") != about


def test_a_third_text_takes_the_place_of_the_second(page: Page) -> None:
    page.open()
    page.search(QUERY)
    first, second, third = page.hits("sum")[:3]
    page.click("[data-fusion=sum] .hit-main", 0)
    page.click("[data-fusion=sum] .hit-main", 1)
    shown(page)
    assert texts(page) == [first, second]
    page.click("[data-view=search]")
    page.click("[data-fusion=sum] .hit-main", 2)
    page.wait(lambda: texts(page) == [first, third], "the other pair")
