"""Servers, indexes and a browser. The fake model makes the states fast; the screenshots show the demo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moee.data import demo_sentences
from tests.browser.page import Page, open_browser, tab
from tests.browser.server import Server, environment_of, run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> & <b>bold</b> <script>alert(1)</script>"


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of commands and servers, with a cache of its own."""
    return environment_of(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's sentences with a topic and a number each, and one text that would be markup if it could."""
    rows = [
        {"id": f"s{place}", "text": row.text, "topic": row.topic, "place": place}
        for place, row in enumerate(demo_sentences())
    ]
    rows.append({"id": "hostile", "text": HOSTILE, "topic": "<i>odd</i>", "place": 1000})
    path = tmp_path_factory.mktemp("corpus") / "sentences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def build(corpus: Path, out: Path, environment: dict[str, str]) -> Path:
    """Build an index with the fake model."""
    columns = ("--id-column", "id", "--fields", "topic,place")
    run("index", "build", corpus, "--out", out, "-m", "fake", *columns, environment=environment)
    return out


@pytest.fixture(scope="session")
def mapped(tmp_path_factory: pytest.TempPathFactory, corpus: Path, environment: dict[str, str]) -> Path:
    """An index with a map."""
    index = build(corpus, tmp_path_factory.mktemp("indexes") / "mapped", environment)
    run("map", index, environment=environment)
    return index


@pytest.fixture(scope="session")
def unmapped(tmp_path_factory: pytest.TempPathFactory, corpus: Path, environment: dict[str, str]) -> Path:
    """An index without a map."""
    return build(corpus, tmp_path_factory.mktemp("indexes") / "unmapped", environment)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, mapped: Path, environment: dict[str, str]) -> Iterator[Server]:
    """A server over the index with a map, for tests that leave it as it is."""
    server = Server("--index", mapped, environment=environment, log=tmp_path_factory.mktemp("logs") / "server")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Chrome]:
    """Chromium without a window."""
    driver = open_browser()
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Chrome, server: Server) -> Iterator[Page]:
    """The page of the shared server; at the end its console must be clean."""
    with tab(browser, server.url) as page:
        yield page
        page.check_console()
