"""Takes the pictures of docs/view.md and README.

    swe-aem train configs/quickstart.yaml --out runs/quickstart
    python -m tests.view.screenshots runs/quickstart

Needs Debian's chromium and chromium-driver. The text of tokens needs the policy's tokenizer: run it where the run was
trained. Pictures show the directory as it is named here.
"""

import io
import sys
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from tests.view.browser import Browser, serving

PICTURES = Path(__file__).parents[2] / "docs" / "images" / "view"
_WIDE, _PHONE = (1280, 860), (390, 800)
_SHOWS_CHARTS = """
return [...document.querySelectorAll(".chart-place")].some((one) => one.getBoundingClientRect().top < innerHeight)
"""
"""Is a chart on the picture? Those further down are drawn when they are scrolled to."""


def main(directory: Path) -> None:
    """Take all pictures of the training run in `directory`."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    browser = Browser()
    try:
        with serving([directory]) as server:
            browser.open(server.url)
            run = f"{server.address}/{quote(directory.name)}"
            store = f"{run}%2Brollouts"
            browser.open(f"{store}/trajectories?outcome=unresolved&max_step=9")
            browser.ask("document.querySelector('table.list tbody th a').click()")
            browser.until("return document.querySelector('.turn')")
            trajectory = browser.driver.current_url.partition("?")[0]
            for name, url, place in (
                ("runs", server.address, ""),
                ("training", run, ""),
                ("charts", run, "figure.chart"),
                ("list", f"{store}/trajectories?q=return", ""),
                ("matrix", f"{store}/matrix?pivot=8&sort=change", ""),
                ("trajectory", f"{trajectory}?advantages=1", ""),
                ("tokens", f"{trajectory}/tokens?by=alpha", ""),
            ):
                browser.look_at(*_WIDE)
                take(browser, url, place, PICTURES / f"{name}.png")
            browser.look_at(*_PHONE, dark=True, phone=True)
            take(browser, trajectory, "", PICTURES / "phone.png")
    finally:
        browser.close()


def take(browser: Browser, url: str, place: str, path: Path) -> None:
    """Write a picture of the page, scrolled to a place, in as many colours as it needs and not more."""
    browser.open(url)
    if place:
        browser.ask(
            "document.querySelector(arguments[0]).closest('.charts').previousElementSibling.scrollIntoView()", place
        )
    if browser.ask(_SHOWS_CHARTS):
        browser.until("return document.querySelector('.chart-place .main-svg')")
    picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
    picture.quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
