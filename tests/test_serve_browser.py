"""The page of `siamjax demo` in a real browser: strokes, dropped files, a gallery; and that it asks nobody else.

Needs the extras `serve` and `browser`, and Chromium (Debian: apt-get install chromium); without, these tests are
skipped.
"""

import base64
import re
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from serving import a_network, file

from siamjax.gallery import Gallery
from siamjax.network import Network

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'siamjax[browser]'")
uvicorn = pytest.importorskip("uvicorn", reason="pip install 'siamjax[serve]'")
pytest.importorskip("fastapi", reason="pip install 'siamjax[serve]'")

playwright.expect.set_options(timeout=20_000)  # ms, on a busy machine

SIZES = [(390, "light"), (1280, "dark")]
# Invented characters: strokes of points, x and y in 0..1.
CHARACTERS = [
    [[(0.2, 0.2), (0.8, 0.2), (0.5, 0.8)]],
    [[(0.5, 0.1), (0.5, 0.9)], [(0.2, 0.4), (0.8, 0.4)], [(0.2, 0.7), (0.8, 0.7)]],
    [[(0.5 + 0.3 * np.cos(a), 0.5 + 0.3 * np.sin(a)) for a in np.linspace(0, 6.3, 14)], [(0.5, 0.2), (0.5, 0.8)]],
    [[(0.2, 0.8), (0.35, 0.2), (0.5, 0.8), (0.65, 0.2), (0.8, 0.8)]],
]


def served(network, folder):
    """Serves the page in a thread, with a gallery in `folder`: its address, and a function that ends it."""
    from siamjax import serve

    return in_thread(serve.application(network, Gallery(folder, network), page=True))


def starting(make):
    """The same, before the service that `make` makes is there."""
    from siamjax.serve._starting import Starting

    return in_thread(Starting(make, lambda: None))


def in_thread(app):
    from siamjax import serve

    listening = serve.listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, args=[[listening]])
    thread.start()

    def end():
        server.should_exit = True
        thread.join()

    return f"http://127.0.0.1:{listening.getsockname()[1]}", end


@pytest.fixture(scope="module")
def plain(browser, tmp_path_factory):
    """The address of the page for a network whose embeddings are pixels."""
    address, end = served(a_network(), tmp_path_factory.mktemp("plain") / "gallery")
    yield address
    end()


@pytest.fixture(scope="module")
def omniglot(browser, tmp_path_factory):
    """The same for the network that comes with siamjax, without its distorted copies, for speed."""
    network = Network.load("omniglot-fast", copies=0)
    address, end = served(network, tmp_path_factory.mktemp("omniglot") / "gallery")
    yield address
    end()


@pytest.fixture
def visit(browser):
    """Opens the page; in the end, asserts that nothing was logged, and no other host was asked for anything."""
    seen, contexts = [], []

    def visit(address, width=1280, scheme="light", expected=(), waiting=False, before=None):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=False)
        contexts.append(context)
        page = context.new_page()

        def note(text):
            if not any(word in text for word in expected):
                seen.append(text)

        page.on("console", lambda message: note(message.text))
        page.on("pageerror", lambda error: note(str(error)))
        page.on("request", lambda asked: asked.url.startswith((address, "data:", "blob:")) or note(asked.url))
        if before:
            before(page)
        page.goto(address)
        if not waiting:
            page.get_by_role("tab").first.wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert seen == []


def strokes(page, label, character, seed):
    """Draws a character into a box with the mouse, by a shaky hand that does not place or size it twice the same."""
    page.get_by_role("img", name=label, exact=True).scroll_into_view_if_needed()
    box = page.get_by_role("img", name=label, exact=True).bounding_box()
    hand = np.random.default_rng(seed)
    turn, size, move = hand.normal(0, 0.05), hand.uniform(0.6, 0.95), hand.uniform(-0.08, 0.08, 2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for stroke in character:
        points = (np.array(stroke) - 0.5 + hand.normal(0, 0.02, (len(stroke), 2))) @ rotation * size + 0.5 + move
        for number, (x, y) in enumerate(points.tolist()):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4 if number else 1)
            if not number:
                page.mouse.down()
        page.mouse.up()


def ranking(page):
    """The names in the ranking, best first, once it is of what was drawn last."""
    playwright.expect(page.locator("#ranking")).to_have_attribute("aria-busy", "false")
    return page.locator("#ranking .name").all_inner_texts()


@pytest.mark.parametrize("width,scheme", SIZES)
def test_the_ranking_follows_the_pen_and_the_right_example_is_first(visit, omniglot, width, scheme):
    page = visit(omniglot, width, scheme)
    for number, character in enumerate(CHARACTERS):
        strokes(page, f"example {number + 1}", character, seed=number)
    firsts = []
    for number, character in enumerate(CHARACTERS):
        strokes(page, "query", character, seed=100 + number)
        names = ranking(page)
        assert len(names) == 4
        firsts.append(names[0])
        page.get_by_role("button", name="clear query").click()
        assert ranking(page) == []
    assert firsts == [f"Example {number + 1}" for number in range(4)]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width,scheme", SIZES)
def test_nothing_moves_under_the_pen_once_the_programs_are_compiled(visit, omniglot, width, scheme):
    states = ["warming up"]

    def told(page):
        page.route("**/status", lambda route: route.fulfill(json={"status": states[-1]}))

    page = visit(omniglot, width, scheme, before=told)
    example, waiting = page.get_by_role("img", name="example 1", exact=True), page.locator("#waiting")
    playwright.expect(waiting).to_contain_text("being compiled")
    before = example.bounding_box()
    states.append("ok")
    playwright.expect(waiting).to_be_hidden()
    assert example.bounding_box() == before


def give(page, place, content, name="image.png", kind="image/png"):
    """Drops a file there."""
    data = page.evaluate_handle(
        """([content, name, type]) => {
          const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0)), data = new DataTransfer();
          data.items.add(new File([bytes], name, { type }));
          return data;
        }""",
        [base64.b64encode(content).decode(), name, kind],
    )
    page.locator(f"{place} .drop").dispatch_event("drop", {"dataTransfer": data})


@pytest.mark.parametrize("width,scheme", SIZES)
def test_two_dropped_images_are_compared_and_the_threshold_moves_the_answer(visit, plain, width, scheme):
    page = visit(plain, width, scheme)
    assert page.get_by_role("tab").all_inner_texts() == ["Compare", "Gallery"]  # It was trained on no drawings.
    give(page, "#first", file(50, side=60))
    give(page, "#second", file(60, side=60))
    verdict = page.locator("#verdict")
    verdict.wait_for()
    assert verdict.inner_text() == "Same"
    before = page.locator("#probability").inner_text()
    assert float(re.search(r"[\d.]+", before)[0]) > 50
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    assert verdict.inner_text() == "Different" and page.locator("#probability").inner_text() == before
    give(page, "#second", file(200, side=60))
    playwright.expect(page.locator("#probability")).not_to_have_text(before)
    page.keyboard.press("Home")
    assert page.locator("#compare .seen").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width,scheme", SIZES)
def test_a_score_is_shown_among_those_of_the_networks_own_test(visit, omniglot, width, scheme):
    page = visit(omniglot, width, scheme)
    page.get_by_role("tab", name="Compare").click()
    for place, grey in (("#first", 20), ("#second", 60)):
        give(page, place, file(grey, side=60))
    page.locator("#verdict").wait_for()
    bars, mark = page.locator("#scores rect.same, #scores rect.different"), page.locator("#scores .mark")
    assert bars.count() > 30 and "400 same and 7,600 different" in page.locator("#scores-about").inner_text()
    assert 0 <= float(mark.get_attribute("x1")) <= 600
    found = []
    for key in ("Home", "End"):
        page.get_by_role("slider").focus()
        page.keyboard.press(key)
        found.append([float(share) for share in re.findall(r"([\d.]+) %", page.locator("#counted").inner_text())])
    assert found == [[100, 0], [0, 100]]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_is_there_while_its_network_is_loaded(visit, tmp_path):
    """It says so, and becomes what it is by itself; other programs are told to wait."""
    from siamjax import serve

    ready, network = threading.Event(), a_network()

    def make():
        assert ready.wait(60)
        return serve.application(network, Gallery(tmp_path / "gallery", network), page=True)

    address, end = starting(make)
    try:
        page = visit(address, waiting=True)
        playwright.expect(page.get_by_role("status")).to_have_text("The network is being loaded …")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}/v1/network")
        assert refused.value.code == 503 and "being loaded" in refused.value.read().decode()
        ready.set()
        page.get_by_role("tab", name="Compare").wait_for()
        playwright.expect(page.get_by_role("status")).to_have_count(0)
    finally:
        ready.set()
        end()


@pytest.mark.parametrize("width,scheme", SIZES)
def test_who_is_enrolled_is_recognised_until_removed(visit, plain, width, scheme):
    page = visit(plain, width, scheme, expected=["409"])
    page.get_by_role("tab", name="Gallery").click()
    name = "<img src=x onerror=window.harmed=1>"
    for identity, grey in ((name, 30), ("ann", 200)):
        page.get_by_label("Name", exact=True).fill(identity)
        give(page, "#new", file(grey, side=60))
        page.get_by_text(identity, exact=True).wait_for()
    answer = page.locator("#answer")
    give(page, "#who", file(32, side=60))
    playwright.expect(answer).to_have_text(name)
    playwright.expect(page.locator("#matches li")).to_have_count(2)
    give(page, "#who", file(115, side=60))
    playwright.expect(answer).to_have_text("Unknown")
    assert page.locator("#identities img").count() == 2 and page.evaluate("window.harmed") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    give(page, "#who", file(32, side=60))
    for to, button in (("bob", "Rename"), ("ann", "Merge")):
        page.get_by_role("button", name="Rename <img").or_(page.get_by_role("button", name="Rename bob")).click()
        page.get_by_label("New name of").fill(to)
        page.get_by_role("button", name=button, exact=True).click()
        playwright.expect(page.get_by_label("New name of")).to_have_count(0)
        playwright.expect(page.locator("#identities")).to_contain_text(to)
        playwright.expect(answer).to_have_text(to)  # Not by a name that nobody has any more.
    playwright.expect(page.locator("#identities li")).to_have_count(1)
    assert "2 images" in page.locator("#identities").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    remove = page.get_by_role("button", name="Remove ann")
    remove.click()
    playwright.expect(remove).to_have_count(0)
    give(page, "#who", file(30, side=60))
    page.get_by_role("alert").wait_for()
    assert "enroll" in page.get_by_role("alert").inner_text()


def test_identities_without_a_name_are_kept_apart_and_an_image_that_is_gone_is_not_asked_for_again(visit, plain):
    page = visit(plain, expected=["400"])
    page.get_by_role("tab", name="Gallery").click()
    for grey, count in ((30, 1), (200, 2)):
        give(page, "#new", file(grey, side=60))
        playwright.expect(page.locator("#identities li")).to_have_count(count)
    page.get_by_role("button", name="Remove identity 1").click()
    playwright.expect(page.locator("#identities li")).to_have_count(1)
    give(page, "#new", file(30, side=60))  # Not added to identity 2.
    playwright.expect(page.locator("#identities li")).to_have_count(2)
    give(page, "#who", file(32, side=60))
    playwright.expect(page.locator("#answer")).to_have_text("identity 1")
    give(page, "#who", b"no image", "notes.txt", "text/plain")
    page.get_by_role("alert").wait_for()
    page.get_by_role("button", name="Remove identity 2").click()
    playwright.expect(page.locator("#identities li")).to_have_count(1)
    assert page.locator("#answer").inner_text() == "" and page.locator("#matches li").count() == 0
    page.get_by_role("button", name="Remove identity 1").click()
    playwright.expect(page.locator("#identities li")).to_have_count(0)


def test_a_file_that_is_no_image_is_told_and_the_page_lives_on(visit, plain):
    page = visit(plain, expected=["400"])
    give(page, "#first", b"no image", "notes.txt", "text/plain")
    page.get_by_role("alert").wait_for()
    assert "notes.txt cannot be read as an image" in page.get_by_role("alert").inner_text()
    for place in ("#first", "#second"):
        give(page, place, file(50))
    page.locator("#verdict").wait_for()
    assert not page.get_by_role("alert").is_visible()
    # The answer was about the image that is no longer there.
    give(page, "#second", b"no image", "notes.txt", "text/plain")
    page.get_by_role("alert").wait_for()
    assert not page.locator("#verdict").is_visible() and page.locator("#second .seen").count() == 0


def test_an_error_stays_although_something_that_began_before_it_succeeds(visit, plain):
    held = []

    def hold(page):
        page.route("**/v1/identities", lambda route: held.append(route))

    page = visit(plain, expected=["400"], before=hold)
    give(page, "#first", b"no image", "notes.txt", "text/plain")
    page.get_by_role("alert").wait_for()
    with page.expect_response("**/v1/identities"):
        held[0].continue_()
    playwright.expect(page.locator("#enrolled")).not_to_have_text("Enrolled")
    assert page.get_by_role("alert").is_visible()


def test_an_image_of_another_kind_is_said_to_be_one(visit, omniglot):
    page = visit(omniglot)
    page.get_by_role("tab", name="Compare").click()
    for place in ("#first", "#second"):
        give(page, place, file(120, side=60))
    page.locator("#verdict").wait_for()
    assert "These images are unlike those" in page.locator("#strange").inner_text()
    assert "dark ink on light paper" in page.locator("#strange").inner_text()
