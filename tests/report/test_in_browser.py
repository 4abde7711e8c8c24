"""The page in headless Chromium: nothing fails, nothing is loaded, everybody can read it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report.conftest import DAY

from rekognition_dagster.lake import Lake
from rekognition_dagster.report import Scope, build_report

AXE = Path(__file__).parents[2] / ".venv/axe/node_modules/axe-core/axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(day: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    scope = Scope(DAY, DAY, faces=True, labels=True)
    path.write_text(build_report(day, scope).html)
    return path


@pytest.fixture(params=["light", "dark", "narrow", "print"])
def page(browser: Any, file: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    width = 390 if request.param == "narrow" else 1100
    scheme = "dark" if request.param == "dark" else "light"
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url))
    page.goto(file.as_uri())
    if request.param == "print":
        page.emulate_media(media="print")
    assert [p for p in problems if not p.startswith("data:")] == [file.as_uri()]
    yield page
    context.close()


def test_every_chart_has_marks_and_nothing_is_wider_than_the_page(page: Any) -> None:
    charts = page.locator("figure.chart svg")
    assert charts.count() >= 8
    for n in range(charts.count()):
        marks = charts.nth(n).locator(
            ".mark-rect path, .mark-area path, .mark-line path, .mark-symbol path"
        )
        sizes = [marks.nth(i).bounding_box() for i in range(marks.count())]
        title = charts.nth(n).get_attribute("aria-label")
        assert any(s and s["width"] * s["height"] > 4 for s in sizes), title
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_an_accessibility_checker_finds_nothing(page: Any) -> None:
    if not AXE.exists():
        pytest.skip("no axe-core: make .venv/axe/.ready")
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("axe.run()")
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found["violations"]] == []


def test_the_tab_key_goes_down_the_page(browser: Any, file: Path) -> None:
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.goto(file.as_uri())
    tops: list[float] = []
    for _ in range(12):
        page.keyboard.press("Tab")
        tops.append(
            page.evaluate(
                "document.activeElement.closest('section, nav').getBoundingClientRect().top"
                " + window.scrollY"
            )
        )
    assert tops == sorted(tops)
    page.close()
