"""The page of a run in a real browser: what moves, what is filtered, and that it asks for nothing.

Needs the extra `browser`, and Chromium (Debian: apt-get install chromium); without either, these tests are skipped.
"""

import json

import pytest
from reporting import a_run, example

from siamjax import cli

SIZES = [(390, "light"), (1280, "dark")]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The page of a run, and one that compares two."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [str(a_run(folder, name, **changes).folder) for name, changes in (("a", {}), ("b", {"encoder.width": 7}))]
    assert cli.main(["report", *runs, "-o", str(folder / "both.html")]) == 0
    return {"run": folder / "a" / "report" / "index.html", "both": folder / "both.html"}


@pytest.fixture
def visit(browser):
    """Opens a file; in the end, asserts that nothing was logged, and nothing else was asked for."""
    seen, contexts = [], []

    def visit(file, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        own = file.as_uri()
        page.on("request", lambda request: request.url.startswith((own, "data:")) or seen.append(request.url))
        page.goto(own)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert seen == []


def mistakes(page):
    """False accepts and false rejects as the page shows them."""
    names = ("false accepts", "false rejects")
    return tuple(int(page.locator(f'[data-count="{name}"] b').inner_text().replace(",", "")) for name in names)


def test_the_slider_and_its_keys_change_the_counts(visit, files):
    page, table = visit(files["run"]), example()[0]["table"]
    rows = {point["name"]: point["row"] for point in example()[0]["points"]}

    def of(row):
        return table["false_accepts"][row], table["false_rejects"][row]

    assert mistakes(page) == of(rows["threshold of the run"])
    slider = page.get_by_role("slider", name="threshold")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert mistakes(page) == of(rows["threshold of the run"] + 3)
    accepts, rejects = of(rows["threshold of the run"] + 3)
    assert f"{accepts} false accepts, {rejects} false rejects" in slider.get_attribute("aria-valuetext")
    for name in ("EER", "FAR 0.01"):
        page.get_by_role("button", name=name, exact=True).click()
        assert mistakes(page) == of(rows[name])
    page.keyboard.press("Tab")
    slider.focus()
    page.keyboard.press("Home")
    assert mistakes(page) == (example()[0]["pairs"]["different"], 0)


def test_answers_are_filtered_and_follow_the_threshold(visit, files):
    page = visit(files["run"])
    items = page.locator("#answers-list .item")
    assert items.count() == 12 and "wrong" in items.first.inner_text()
    page.get_by_role("button", name="Same or not?").click()
    kinds = page.get_by_role("combobox", name="which answers")
    kinds.select_option("false accept")
    more = page.get_by_role("button", name="Show more")
    while more.is_visible():
        more.click()
    assert items.count() == mistakes(page)[0] > 0
    assert all("false accept" in text for text in items.all_inner_texts())
    page.get_by_role("searchbox").fill("person 3")
    assert items.count() and all("person 3" in text for text in items.all_inner_texts())
    page.get_by_role("searchbox").fill("")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")  # Nothing is accepted there.
    assert items.count() == 0 and "No answer of this kind" in page.locator("#answers-list").inner_text()


@pytest.mark.parametrize("width,scheme", SIZES)
@pytest.mark.parametrize("name", ["run", "both"])
def test_nothing_is_wider_than_the_window(visit, files, name, width, scheme):
    page = visit(files[name], width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg").count() >= 3
    assert not any(word in page.locator("main").inner_text() for word in ("NaN", "undefined", "Infinity"))
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(252, 252, 250)", "dark": "rgb(20, 23, 26)"}[scheme]


def test_a_name_that_is_markup_is_shown_as_text(visit, files):
    page = visit(files["run"])
    page.get_by_role("button", name="Same or not?").click()
    page.get_by_role("combobox", name="which answers").select_option("all")
    page.get_by_role("searchbox").fill("onerror")
    assert "</script><img src=x onerror=window.harmed=1>" in page.locator("#answers-list").inner_text()
    assert page.locator("img").count() == 0 and page.evaluate("window.harmed") is None


def test_a_point_of_the_map_shows_its_image(visit, files):
    page, answers = visit(files["run"]), example()[0]
    page.locator(".map").focus()
    page.keyboard.press("ArrowRight")
    name = answers["names"][answers["map"]["image"][0]]
    tip = page.locator("#tip")
    assert name in tip.inner_text() and tip.locator(".thumb").count() == 1
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    page.locator(".map").click(position={"x": 3, "y": 3}, force=True)
    box = page.locator(".map circle").nth(5).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tip.is_visible()


def test_the_headline_is_the_accuracy_of_the_file(visit, files):
    row = json.loads((files["run"].parents[1] / "results.json").read_text())["verification"]
    page = visit(files["run"])
    assert page.locator("#headline").inner_text().startswith(f"{100 * row['accuracy']:.1f}")
    assert "over identities: 70.0–95.0" in page.locator("#headline-interval").inner_text()
