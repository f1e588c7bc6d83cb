"""The explorer page in a browser, as the tests use it. Waits are bounded, and say what they waited for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from selenium.webdriver.remote.webelement import WebElement

WAIT_S = 60  # the demo reads a question in less than a second, but not on a machine that does other things


def open_browser() -> Chrome:
    """Start headless Chromium; the tests fail without it, for they would show nothing otherwise."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    assert chromium, "no chromium on this machine; install it (Debian: apt-get install chromium chromium-driver)"
    assert driver, "no chromedriver on this machine; install it (Debian: apt-get install chromium-driver)"
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options=options, service=Service(driver))


class Page:
    """The page of a server, in a tab of its own.

    Args:
        driver: The browser.
        url: Address of the server.
    """

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        self.url = url.rstrip("/")
        self.expected: list[str] = []
        """Parts of console messages that the test causes on purpose; each must come."""

    def open(self, address: str = "") -> Page:
        """Load the page, and wait until it knows its server."""
        self.driver.get(f"{self.url}/{address}")
        self.wait(lambda: self.attribute("#server", "data-state") != "waiting", "the page to know its server")
        return self

    def size(self, width: int, height: int, scale: float = 1) -> None:
        """Set the size of the window's inside, in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefers(self, **features: str) -> None:
        """Set what the system prefers, such as `color_scheme="dark"`."""
        chosen = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": chosen})

    def js(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def all(self, css: str) -> list[WebElement]:
        """Return the elements that a selector matches."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        """Return the first element that a selector matches."""
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        """Return the text of an element as a person sees it; empty if it is hidden."""
        return self.one(css).text

    def shows(self, css: str) -> bool:
        """Return whether a person sees the element."""
        return any(element.is_displayed() for element in self.all(css))

    def attribute(self, css: str, name: str) -> str | None:
        """Return an attribute of an element."""
        return self.one(css).get_dom_attribute(name)

    def click(self, css: str, place: int = 0) -> None:
        """Bring an element to the middle of the window and click it."""
        element = self.all(css)[place]
        self.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def focused(self) -> WebElement:
        """Return the element that has the focus."""
        return self.driver.switch_to.active_element

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
        """Wait until a condition holds, and return its value."""
        waiting = WebDriverWait(self.driver, seconds, 0.05, ignored_exceptions=[StaleElementReferenceException])
        try:
            return waiting.until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(
                f"waited {seconds} s in vain for {what}; the page shows:\n{self.text('body')}"
            ) from None

    def search(self, query: str, where: str | None = None) -> None:
        """Type a query, and a filter if given, and wait for the results."""
        if where is not None:
            self.fill("#filter", where)
        self.fill("#query", query)
        self.press(Keys.ENTER)
        self.wait_results()

    def wait_results(self) -> None:
        """Wait until all columns have results that no newer answer is awaited for."""
        self.wait(lambda: self.all(".hit") and not self.all("[aria-busy=true]"), "results")

    def fill(self, css: str, text: str) -> None:
        """Replace the text of a field."""
        field = self.one(css)
        self.js("arguments[0].focus(); arguments[0].select()", field)
        field.send_keys(text or Keys.DELETE)
        assert self.js("return arguments[0].value", field) == text

    def weigh(self, **weights: float) -> None:
        """Type weights of views into their fields."""
        for view, weight in weights.items():
            self.fill(f"#weight-{view}-number", f"{weight:g}")

    def hits(self, fusion: str) -> list[str]:
        """Return the texts of a column, best first."""
        return self._column(fusion, ".hit-text")

    def scores(self, fusion: str) -> list[float]:
        """Return the scores of a column as they are shown."""
        return [number(text) for text in self._column(fusion, ".score")]

    def _column(self, fusion: str, css: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)"
        return [str(text) for text in self.js(script, f"[data-fusion={fusion}] {css}")]

    def note(self, fusion: str) -> str:
        """Return the line that says where a column's order comes from."""
        return self.text(f"[data-fusion={fusion}] .freshness")

    def wait_exact(self) -> None:
        """Wait until the server has confirmed the order of the sum."""
        self.wait(lambda: self.note("sum").startswith("From the server"), "the server's order of the sum")

    def painted(self, css: str) -> int:
        """Return how many different colours the canvas inside an element shows."""
        return int(
            self.js(
                """
                const canvas = document.querySelector(arguments[0] + " canvas");
                if (!canvas) return 0;
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                const seen = new Set();
                for (let i = 0; i < data.length; i += 4) {
                  if (data[i + 3]) seen.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
                }
                return seen.size;
                """,
                css,
            )
        )

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(self.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def check_console(self) -> None:
        """Fail on anything in the console that the test did not cause on purpose."""
        entries = [entry for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        messages = [str(entry["message"]) for entry in entries]
        unexpected = [text for text in messages if not any(part in text for part in self.expected)]
        assert not unexpected, f"the console says: {unexpected}"
        for part in self.expected:
            assert any(part in text for text in messages), (
                f"{part!r} was expected in the console, which says {messages}"
            )


@contextmanager
def tab(driver: Chrome, url: str) -> Iterator[Page]:
    """A page in a new tab, with nothing kept from the one before."""
    before = driver.current_window_handle
    driver.get_log("browser")
    driver.switch_to.new_window("tab")
    page = Page(driver, url)
    page.size(1280, 900)
    driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    try:
        yield page
    finally:
        driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": page.url, "storageTypes": "all"})
        driver.close()
        driver.switch_to.window(before)


def number(text: str) -> float:
    """Read a number with a true minus sign."""
    return float(text.replace("\N{MINUS SIGN}", "-"))


def axe(page: Page) -> list[str]:
    """Return what axe-core finds against WCAG 2.2 AA, one line a rule."""
    page.js((Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8") + ";window.axe = axe;")
    found = page.driver.execute_async_script(
        """
        const done = arguments[arguments.length - 1];
        const runOnly = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
        const say = ({ id, help, nodes }) => `${id}: ${help} ${nodes.map((n) => n.html.slice(0, 160)).join(" | ")}`;
        axe.run(document, { runOnly }).then(
          (report) => done(report.violations.map(say)),
          (error) => done([String(error)]),
        );
        """
    )
    return [str(line) for line in found]
