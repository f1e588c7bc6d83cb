"""The slider: a new order at once from the cosines at hand, then the server's own."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.page import Page
from tests.browser.server import Server

pytestmark = pytest.mark.slow

QUERY = "How do I bake bread at home?"


def cosines(server: Server) -> dict[str, tuple[float, float]]:
    """Both cosines of every text with the query."""
    answer = server.post("/search", query=QUERY, k=100)
    return {hit["text"]: (hit["hidden"], hit["routing"]) for hit in answer["results"]}


def expected(cosines: dict[str, tuple[float, float]], alpha: float, among: set[str]) -> list[str]:
    """The order of some texts under an alpha."""
    scores = {text: (cosines[text][0] + alpha * cosines[text][1]) / (1 + alpha) for text in among}
    return sorted(among, key=lambda text: -scores[text])[:10]


def test_the_order_changes_at_once_and_then_agrees_with_the_server(page: Page, server: Server) -> None:
    page.open()
    page.search(QUERY)
    page.click("#more")
    at_hand = {text for fusion in ("hs", "rw", "sum") for text in page.hits(fusion)}
    page.click("#more")
    before = page.hits("sum")
    # within one script no answer can arrive: what it reads was computed here
    order, note = page.js(
        """
        const slider = document.querySelector("#alpha");
        slider.value = "80";
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        const column = document.querySelector("[data-fusion=sum]");
        return [[...column.querySelectorAll(".hit-text")].map((n) => n.textContent),
                column.querySelector(".freshness").textContent];
        """
    )
    assert order != before
    assert order == expected(cosines(server), 4.0, at_hand)
    assert note.startswith("Re-ranked here")
    page.wait_exact()
    exact = server.post("/search", query=QUERY, k=10, fusion="sum", alpha=4.0)["results"]
    assert page.hits("sum") == [hit["text"] for hit in exact]
    assert page.scores("sum") == pytest.approx([hit["score"] for hit in exact], abs=6e-4)
    page.wait(lambda: "alpha=4" in page.driver.current_url, "the alpha in the address")


def test_the_other_columns_stay(page: Page) -> None:
    page.open()
    page.search(QUERY)
    before = page.hits("hs"), page.hits("rw")
    page.fill("#alpha-number", "3")
    page.wait_exact()
    assert (page.hits("hs"), page.hits("rw")) == before


def test_it_starts_at_the_alpha_of_the_index_and_returns_to_it(page: Page, server: Server) -> None:
    alpha = server.get("/info")["index"]["alpha"]
    page.open()
    page.search(QUERY)
    field = "return Number(document.querySelector('#alpha-number').value)"
    assert page.js(field) == pytest.approx(alpha, rel=1e-2)
    assert not page.shows("#alpha-default")
    page.one("#alpha").send_keys(Keys.END)
    assert page.js(field) == 9
    assert page.text("#share").split() == ["90", "%"]
    page.click("#alpha-default")
    page.wait_exact()
    assert page.js(field) == pytest.approx(alpha, rel=1e-2)
    assert "alpha=" not in page.driver.current_url


def test_at_its_ends_the_sum_is_near_one_view(page: Page) -> None:
    page.open()
    page.search(QUERY)
    page.one("#alpha").send_keys(Keys.HOME)
    page.wait_exact()
    assert page.hits("sum") == page.hits("hs")
    page.fill("#alpha-number", "1000000")
    page.wait_exact()
    assert page.hits("sum") == page.hits("rw")


def test_what_is_no_alpha_is_said_and_changes_nothing(page: Page) -> None:
    page.open()
    page.search(QUERY)
    before = page.hits("sum")
    page.fill("#alpha-number", "-2")
    assert "-2 is not" in page.text("#alpha-error")
    assert page.attribute("#alpha-number", "aria-invalid") == "true"
    assert page.hits("sum") == before
    page.press(Keys.TAB)
    assert not page.shows("#alpha-error")
