"""Pictures of the explorer for the docs: `python -m tests.browser.screenshots FOLDER`.

They show the real page over an index of the package's own sentences, made with the embedded default model.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from moee.data import calibration_texts, demo_sentences
from tests.browser.page import Page, open_browser, tab
from tests.browser.server import Server, environment_of, run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

NAMES = ("search", "dark", "pair", "map", "narrow")
SIZES = {"pair": (1280, 1330), "narrow": (400, 860)}
NUM_GENERAL = 1000
QUESTION = "?q=How+do+I+bake+bread+at+home%3F"
PAIR = (
    "&a=Knead+the+dough+for+ten+minutes+and+let+it+rise+in+a+warm+place."
    "&b=Whisk+the+egg+whites+until+they+hold+stiff+peaks%2C+then+fold+in+the+sugar."
)


def make_index(folder: Path, environment: dict[str, str], num_general: int = NUM_GENERAL) -> Path:
    """Build and map an index of the demo's sentences and some of the general ones."""
    rows = [{"id": f"demo-{place}", "text": row.text, "topic": row.topic} for place, row in enumerate(demo_sentences())]
    rows += [
        {"id": f"general-{place}", "text": text, "topic": "general"}
        for place, text in enumerate(calibration_texts()[:num_general])
    ]
    texts = folder / "sentences.jsonl"
    texts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    index = folder / "sentences"
    run("index", "build", texts, "--out", index, "-m", "demo", "--id-column", "id", "--fields", "topic",
        environment=environment)  # fmt: skip
    run("map", index, environment=environment)
    return index


def take(driver: Chrome, url: str, folder: Path) -> list[Path]:
    """Write one PNG file for each of `NAMES`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_shot(driver, url, folder / f"explorer-{name}.png", name) for name in NAMES]


def _shot(driver: Chrome, url: str, path: Path, name: str) -> Path:
    with tab(driver, url) as page:
        page.prefers(reduced_motion="reduce", color_scheme="dark" if name == "dark" else "light")
        width, height = SIZES.get(name, (1280, 860))
        page.size(width, height, scale=1 if name == "map" else 1.25)  # thousands of dots make large files
        _show(page, name)
        page.driver.save_screenshot(str(path))
        page.check_console()
    return path


def _show(page: Page, name: str) -> None:
    if name == "pair":
        page.open(f"{QUESTION}{PAIR}#compare")
        page.wait(lambda: page.painted("#heat") > 20, "the heat map")
    elif name == "map":
        page.open(f"{QUESTION}#map")
        page.wait(lambda: len(page.all("#lit .row")) == 10 and page.painted("#map") > 20, "the map")
        page.js("scrollTo({ top: document.querySelector('.map-head').offsetTop - 90, behavior: 'instant' })")
    else:
        page.open(f"{QUESTION}&hs=1&rw=1&tokens=0.3&lexical=0.5" if name == "dark" else QUESTION)
        page.wait_results()


def main(folder: Path) -> None:
    """Build the index, serve it, and take the pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = environment_of(Path(scratch) / "cache")
        index = make_index(Path(scratch), environment)
        server = Server("--index", index, environment=environment, log=Path(scratch) / "log").start()
        driver = open_browser()
        try:
            take(driver, server.url, folder)
        finally:
            driver.quit()
            server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
