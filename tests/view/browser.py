"""Debian's Chromium on the pages of the viewer: what a person sees and does there, and what the browser says of it."""

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_core_python.selenium import Axe
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.remote.webelement import WebElement

from swe_aem.view.found import Kind
from swe_aem.view.pages import PAGES
from swe_aem.view.server import ViewServer
from swe_aem.view.site import Site

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
"""Programs of Debian's packages chromium and chromium-driver, None where they are not installed."""
_WAIT_S = 60.0
_SCROLLING = "scrollable-region-focusable"
"""Left out: Chromium and Firefox let the keyboard enter what scrolls."""
Line = dict[str, Any]


class Browser:
    """One tab of a browser without a screen."""

    def __init__(self) -> None:
        options = ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for argument in (
            "headless=new",
            "no-sandbox",
            "disable-dev-shm-usage",
            "hide-scrollbars",
            "force-color-profile=srgb",
        ):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=ChromeService(DRIVER))
        self.driver.set_script_timeout(5 * _WAIT_S)  # axe takes long on a machine that does much else
        self.look_at(1280, 900)

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()

    def command(self, name: str, **values: Any) -> Line:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, values)

    def open(self, url: str) -> None:
        """Open a page, and wait until its scripts have run."""
        self.driver.get(url)

    def look_at(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Set the window's size and the colour scheme that is preferred."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def scripts(self, *, run: bool) -> None:
        """Whether the scripts of pages run. Those of `ask` do then only where they do."""
        self.command("Emulation.setScriptExecutionDisabled", value=not run)

    def ask(self, script: str, *arguments: Any) -> Any:
        """What JavaScript says on the page."""
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: Any) -> Any:
        """Wait until JavaScript says something true, and return it."""
        end = time.monotonic() + _WAIT_S
        while not (found := self.ask(script, *arguments)):
            assert time.monotonic() < end, f"this never became true: {script}"
            time.sleep(0.02)
        return found

    def until_at(self, address: str) -> None:
        """Wait until the page's address contains a text: a form that was sent leads there later. Needs no scripts."""
        end = time.monotonic() + _WAIT_S
        while address not in self.driver.current_url:
            assert time.monotonic() < end, f"{self.driver.current_url} never became {address}"
            time.sleep(0.02)

    def press(self, keys: str) -> None:
        """Press keys, one after the other."""
        ActionChains(self.driver).send_keys(keys).perform()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse from one place of what is seen to another."""
        hand = ActionBuilder(self.driver)
        hand.pointer_action.move_to_location(*map(round, start)).pointer_down()
        hand.pointer_action.move_to_location(*map(round, end)).pointer_up()
        hand.perform()

    def element(self, selector: str) -> WebElement:
        """The first element that a CSS selector finds."""
        return self.driver.find_element("css selector", selector)

    def elements(self, selector: str) -> list[WebElement]:
        """The elements that a CSS selector finds."""
        return self.driver.find_elements("css selector", selector)

    def complaints(self) -> list[str]:
        """What the console said since it was last asked: errors of scripts, what the content security policy kept from
        running, and files that were not there."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]

    def requests(self) -> set[str]:
        """Addresses that were asked for since this was last called."""
        found = set()
        for entry in self.driver.get_log("performance"):
            if '"Network.requestWillBeSent"' in (message := entry["message"]):
                found.add(message.partition('"request":{')[2].partition('"url":"')[2].partition('"')[0])
        return found

    def accessibility(self, *rules: str) -> list[str]:
        """What axe finds wrong on the page by all its rules, or by some: names that are missing, contrast that is too
        low, and the like. One chart of each section is left, for they are
        alike and large, and what plotly drew is not looked at: the numbers are in a table."""
        self.ask("for (const one of document.querySelectorAll('figure + figure, .chart tbody tr + tr')) one.remove()")
        options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
        found = Axe().run(self.driver, context={"exclude": [[".chart-place > *"]]}, options=options)
        return [
            f"{rule['id']}: {rule['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:200]}"
            for rule in found["violations"]
            if rule["id"] != _SCROLLING
            for node in rule["nodes"]
        ]

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return self.driver.get_screenshot_as_png()


@contextmanager
def serving(directories: Sequence[Path]) -> Iterator[ViewServer]:
    """A viewer of these directories, whose stores are indexed, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="viewer")
    thread.start()

    def call(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_WAIT_S)

    try:
        site = Site(directories, PAGES)
        for run in site.runs():
            if run.kind is not Kind.GRADES:
                site.index(run).build()
        server = ViewServer(site)
        call(server.__aenter__())
        try:
            yield server
        finally:
            call(server.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
