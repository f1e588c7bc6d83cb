"""The sliders: a new order at once from the cosines at hand, then the server's own."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.page import Page
from tests.browser.server import Server

pytestmark = pytest.mark.slow

QUERY = "How do I bake bread at home?"
VIEWS = ("hs", "rw", "tokens", "lexical")


def expected(server: Server, weights: dict[str, float], among: set[str]) -> list[str]:
    """The order of some texts under weights, from the cosines that the server gives."""
    answer = server.post("/search", query=QUERY, k=100)
    cosines = {hit["text"]: hit["cosines"] for hit in answer["results"]}
    scores = {text: sum(weight * cosines[text][view] for view, weight in weights.items()) for text in among}
    return sorted(among, key=lambda text: -scores[text])[:10]


def shown(page: Page) -> dict[str, float]:
    """The weights that the fields show."""
    script = "return Object.fromEntries([...document.querySelectorAll('.weight-row')].map((row) => "
    script += "[row.querySelector('input').id.slice(7), Number(row.querySelector('[type=number]').value)]))"
    return {str(view): float(weight) for view, weight in page.js(script).items()}


def test_there_is_a_slider_for_every_view_at_the_weights_of_the_index(page: Page, server: Server) -> None:
    page.open()
    weights = server.weights
    assert set(weights) == set(VIEWS), "premise: the index holds all views"
    assert shown(page) == pytest.approx(weights, rel=1e-2)
    total = sum(weights.values())
    for view, weight in weights.items():
        assert float(page.text(f"#weight-{view}-share").split()[0]) == pytest.approx(100 * weight / total, abs=0.51)
    assert not page.shows("#weight-default")


@pytest.mark.parametrize("view", VIEWS)
def test_the_order_changes_at_once_and_then_agrees_with_the_server(page: Page, server: Server, view: str) -> None:
    page.open()
    page.search(QUERY)
    page.click("#more")
    at_hand = {text for fusion in ("hs", "rw", "sum") for text in page.hits(fusion)}
    page.click("#more")
    before = page.hits("sum")
    weights = {**server.weights, view: 0.0 if view == "lexical" else 2.0}
    # within one script no answer can arrive: what it reads was computed here
    order, note = page.js(
        """
        const slider = document.querySelector("#weight-" + arguments[0]);
        slider.value = String(arguments[1]);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        const column = document.querySelector("[data-fusion=sum]");
        return [[...column.querySelectorAll(".hit-text")].map((n) => n.textContent),
                column.querySelector(".freshness").textContent];
        """,
        view,
        weights[view],
    )
    assert order == expected(server, weights, at_hand)
    assert order != before
    assert note.startswith("Re-ranked here")
    page.wait_exact()
    exact = server.post("/search", query=QUERY, k=10, weights=weights)["results"]
    assert page.hits("sum") == [hit["text"] for hit in exact]
    assert page.scores("sum") == pytest.approx([hit["score"] for hit in exact], abs=6e-4)
    page.wait(lambda: f"{view}={weights[view]:g}" in page.driver.current_url, "the weight in the address")


def test_every_result_names_its_cosines(page: Page, server: Server) -> None:
    page.open()
    page.search(QUERY)
    best = server.post("/search", query=QUERY, k=1)["results"][0]["cosines"]
    words = page.text("[data-fusion=sum] .hit-views").replace("\N{MINUS SIGN}", "-").split()
    assert words[::2] == ["HS", "RW", "Tokens", "Words"]
    assert [float(number) for number in words[1::2]] == pytest.approx([best[view] for view in VIEWS], abs=6e-3)


def test_the_other_columns_stay(page: Page) -> None:
    page.open()
    page.search(QUERY)
    before = page.hits("hs"), page.hits("rw")
    page.weigh(rw=3)
    page.wait_exact()
    assert (page.hits("hs"), page.hits("rw")) == before


def test_the_default_returns_to_the_weights_of_the_index(page: Page, server: Server) -> None:
    page.open()
    page.search(QUERY)
    page.one("#weight-rw").send_keys(Keys.END)
    assert shown(page)["rw"] == 2
    page.wait(lambda: "rw=2" in page.driver.current_url, "the weight in the address")
    page.click("#weight-default")
    page.wait_exact()
    assert shown(page) == pytest.approx(server.weights, rel=1e-2)
    assert "rw=" not in page.driver.current_url


def test_one_view_alone_gives_the_order_of_that_view(page: Page) -> None:
    page.open()
    page.search(QUERY)
    page.weigh(hs=1, rw=0, tokens=0, lexical=0)
    page.wait_exact()
    assert page.hits("sum") == page.hits("hs")
    page.weigh(rw=1, hs=0)
    page.wait_exact()
    assert page.hits("sum") == page.hits("rw")


def test_what_is_no_weight_is_said_and_changes_nothing(page: Page) -> None:
    page.open()
    page.search(QUERY)
    before = page.hits("sum")
    page.fill("#weight-rw-number", "-2")
    assert "-2 is not" in page.text("#weight-error")
    assert page.attribute("#weight-rw-number", "aria-invalid") == "true"
    assert page.hits("sum") == before
    page.press(Keys.TAB)
    assert not page.shows("#weight-error")


def test_one_view_at_least_must_count(page: Page) -> None:
    page.open()
    page.weigh(hs=1, rw=0, tokens=0, lexical=0)
    page.fill("#weight-hs-number", "0")
    assert page.text("#weight-error") == "At least one view must count more than 0."
    page.press(Keys.TAB)
    assert shown(page) == {"hs": 1, "rw": 0, "tokens": 0, "lexical": 0}


def test_a_link_of_before_still_sets_alpha(page: Page) -> None:
    page.open("?alpha=0.5")
    assert shown(page) == {"hs": 1, "rw": 0.5, "tokens": 0, "lexical": 0}
