"""The explorer page is served from the package, and a browser is told to load nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from moee import MoEE
from moee.method.config import EmbedderConfig
from moee.serve.page import FOLDER
from tests.serve.conftest import Running, Serve, WatchedBackend, serving

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(MoEE(WatchedBackend(), EmbedderConfig(calibration="none"))) as running:
        yield running


def test_the_page_is_at_the_root(server: Running) -> None:
    answer = server.client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_its_type(server: Running, name: str) -> None:
    answer = server.client.get(f"/static/{name}")
    assert answer.content == (FOLDER / name).read_bytes()
    types = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    for suffix, wanted in types.items():
        if name.endswith(suffix):
            assert wanted in answer.headers["content-type"]


def test_a_browser_asks_again_and_gets_304(server: Running) -> None:
    for path in ("/", "/static/index.html"):
        first = server.client.get(path)
        assert first.headers["cache-control"] == "no-cache"
        again = server.client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/", "/static/index.html", "/info", "/nothing", "/embed"])
def test_every_answer_has_the_security_headers(server: Running, path: str) -> None:
    headers = server.client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "server" not in headers


def test_the_page_names_no_other_host(server: Running) -> None:
    loaded = re.findall(r'(?:src|href)="([^"]+)"', server.client.get("/").text)
    assert loaded
    assert not [each for each in loaded if each.startswith(("http:", "https:", "//"))]


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/"])
def test_nothing_else_of_the_package_is_served(server: Running, path: str) -> None:
    assert server.client.get(path).status_code == 404


def test_no_page_of_fastapi_is_served(server: Running) -> None:
    for path in ("/docs", "/redoc"):
        assert server.client.get(path).status_code == 404


def test_other_origins_may_call_only_if_they_are_named(serve: Serve, fake: MoEE) -> None:
    with serve(fake, api_key="k", cors_allow_origin=("https://example.org",)) as server:
        preflight = {
            "origin": "https://example.org",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        }
        asked = server.client.options("/embed", headers=preflight)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == "https://example.org"
        refused = server.client.get("/info", headers={"origin": "https://example.org"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://example.org"  # its page can read the error
        other = server.client.get("/health", headers={"origin": "https://example.com"})
        assert "access-control-allow-origin" not in other.headers
    with serve(fake) as server:
        assert server.client.options("/embed", headers=preflight).status_code == 405
