"""What the page says when there is nothing to show, or nobody answers."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import build
from tests.browser.page import tab
from tests.browser.server import Server, run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.slow

QUERY = "How do I bake bread at home?"
Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Start servers of a test's own."""
    servers: list[Server] = []

    def starting(*arguments: str | Path, **extra: str) -> Server:
        server = Server(*arguments, environment=environment, log=tmp_path / f"log{len(servers)}", **extra)
        servers.append(server)
        return server.start()

    yield starting
    for server in servers:
        server.stop()


def test_without_an_index_texts_can_still_be_compared(browser: Chrome, start: Start) -> None:
    with tab(browser, start("-m", "fake").url) as page:
        page.open("?q=bread")
        assert page.text("#server-text") == "fake · no index"
        assert page.text("#search-state h2") == "This server has no index to search"
        assert "moee index build" in page.text("#search-state pre")
        page.click("[data-view=map]")
        assert page.text("#map-state h2") == "This server has no index to search"
        page.click("#map-state button")
        page.wait(lambda: page.shows("#text-a"), "the comparison")
        page.fill("#text-a", "one cat")
        page.fill("#text-b", "two cats")
        page.press(Keys.ENTER)
        page.wait(lambda: page.shows("#explanation"), "the explanation")
        page.check_console()


def test_an_empty_index_says_how_to_fill_it(
    browser: Chrome, start: Start, tmp_path: Path, corpus: Path, environment: dict[str, str]
) -> None:
    index = build(corpus, tmp_path / "empty", environment)
    ids = [json.loads(line)["id"] for line in corpus.read_text(encoding="utf-8").splitlines()]
    run("index", "delete", index, *ids, environment=environment)
    with tab(browser, start("--index", index).url) as page:
        page.open("?q=bread")
        page.wait(lambda: page.shows("#search-state"), "the state")
        assert page.text("#search-state h2") == "The index is empty"
        assert "moee index add" in page.text("#search-state pre")
        page.check_console()


def test_an_index_without_a_map_says_how_to_make_one(browser: Chrome, start: Start, unmapped: Path) -> None:
    with tab(browser, start("--index", unmapped).url) as page:
        page.open("#map")
        page.wait(lambda: page.shows("#map-state"), "the state")
        assert page.text("#map-state h2") == "This index has no map yet"
        assert "moee map" in page.text("#map-state pre")
        page.check_console()


def test_a_map_older_than_its_index_says_so(
    browser: Chrome, start: Start, tmp_path: Path, mapped: Path, environment: dict[str, str]
) -> None:
    index = Path(shutil.copytree(mapped, tmp_path / "grown"))
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"id": "new", "text": "Bread rises.", "topic": "cooking", "place": 1}) + "\n")
    run("index", "add", index, more, environment=environment)
    with tab(browser, start("--index", index).url) as page:
        page.open("?q=Bread+rises.#map")
        page.wait(lambda: len(page.all("#lit .row")) == 10, "the list of lit texts")
        assert page.text("#map-stale").startswith("The map was made of 73 texts, and the index holds 74.")
        assert page.text("#lit .row-text") == "Bread rises. (added after the map was made)"
        page.check_console()


def test_a_server_that_goes_away_is_told_and_missed_until_it_is_back(
    browser: Chrome, start: Start, unmapped: Path
) -> None:
    server = start("--index", unmapped)
    with tab(browser, server.url) as page:
        page.expected = ["ERR_CONNECTION_REFUSED"]
        page.open()
        page.search(QUERY)
        before = page.hits("sum")
        server.kill()
        page.weigh(rw=3)
        page.wait(lambda: "does not answer" in page.text("#banner"), "word that the server is down")
        assert page.text("#server-text") == "No answer"
        assert page.hits("hs"), "what was found stays"
        server.start()
        page.click("#banner-action")
        page.wait(lambda: not page.shows("#banner"), "word that it is back")
        page.wait_exact()
        assert page.hits("sum") != before
        page.wait(lambda: page.text("#server-text") == "fake · 73 texts", "the server's name again")
        page.check_console()


def test_a_search_that_nobody_answered_is_asked_again(browser: Chrome, start: Start, unmapped: Path) -> None:
    server = start("--index", unmapped)
    with tab(browser, server.url) as page:
        page.expected = ["ERR_CONNECTION_REFUSED"]
        page.open()
        server.kill()
        page.fill("#query", QUERY)
        page.press(Keys.ENTER)
        page.wait(lambda: page.shows("#banner-action"), "the button to try again")
        server.start()
        page.wait_results()  # without a click: it tries by itself
        page.check_console()


def test_a_wrong_key_is_refused_and_the_right_one_is_kept_for_the_tab(
    browser: Chrome, start: Start, unmapped: Path
) -> None:
    server = start("--index", unmapped, MOEE_API_KEY="right")
    with tab(browser, server.url) as page:
        page.expected = ["status of 401"]
        page.driver.get(server.url)
        page.wait(lambda: page.shows("#key-dialog"), "the question for the key")
        assert not page.shows("#key-error")
        page.press("wrong", Keys.ENTER)
        page.wait(lambda: page.shows("#key-error"), "the refusal")
        assert "refuses this key" in page.text("#key-error")
        page.press(Keys.ESCAPE)
        assert page.shows("#key-dialog"), "there is nothing to see without a key"
        page.fill("#key", "right")
        page.press(Keys.ENTER)
        page.wait(lambda: not page.shows("#key-dialog"), "the page")
        page.search(QUERY)
        page.open()
        assert not page.shows("#key-dialog")
        assert page.js("return [Object.values(sessionStorage), Object.values(localStorage)]") == [["right"], []]
        assert "right" not in page.driver.current_url
        page.check_console()


def test_a_busy_server_is_asked_again_when_it_said(browser: Chrome, start: Start, unmapped: Path) -> None:
    server = start("--index", unmapped, "--max-concurrent-requests", "1")
    with tab(browser, server.url) as page:
        page.expected = ["status of 429"]
        page.open()
        with socket.create_connection(server.address, timeout=30) as held:
            # a request whose body does not come takes the only place
            held.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            page.fill("#query", QUERY)
            page.press(Keys.ENTER)
            page.wait(lambda: page.text("#banner").startswith("The server is busy"), "word that the server is busy")
        page.wait_results()
        page.wait(lambda: not page.shows("#banner"), "the end of the notice")
        page.check_console()


def test_slow_answers_are_accounted_for(browser: Chrome, start: Start, unmapped: Path) -> None:
    server = start("--index", unmapped)
    with tab(browser, server.url) as page:
        page.open()
        server.freeze()
        try:
            page.fill("#query", QUERY)
            page.press(Keys.ENTER)
            assert len(page.all(".skeleton")) >= 3
            page.wait(lambda: page.text("#banner").startswith("Still waiting"), "word that it takes long")
        finally:
            server.thaw()
        page.wait_results()
        page.wait(lambda: not page.shows("#banner"), "the end of the notice")
        page.check_console()


def test_a_text_over_the_limit_is_refused_under_its_field(browser: Chrome, start: Start, unmapped: Path) -> None:
    server = start("--index", unmapped, "--payload-limit", "2000")
    with tab(browser, server.url) as page:
        page.expected = ["status of 413"]
        page.open()
        page.js("document.querySelector('#query').value = 'bread '.repeat(2000)")
        page.click("#go")
        page.wait(lambda: page.shows("#query-error"), "the error of the query")
        assert "2000 bytes" in page.text("#query-error")
        page.js("document.querySelector('#query').value = ''")
        page.click("[data-view=compare]")
        page.fill("#text-b", "two cats")
        page.js("document.querySelector('#text-a').value = 'bread '.repeat(2000)")
        page.click("#pair button[type=submit]")
        page.wait(lambda: "2000 bytes" in page.text("#pair-error"), "the error of the pair")
        page.check_console()
