"""The documentation site is built strictly, and reads offline."""

import html.parser
import pathlib
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("myst_nb", reason="pip install 'siamjax[docs]'")

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def build(source, place):
    program = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(source), str(place)]
    return subprocess.run(program, cwd=DOCS.parent, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    done = build(DOCS, place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def page(tmp_path):
    """Builds a site of one page, with the settings of the real one."""

    def page(text):
        shutil.copytree(DOCS / "_static", tmp_path / "docs" / "_static", dirs_exist_ok=True)
        for name in ("conf.py", "formulas.toml"):
            shutil.copy(DOCS / name, tmp_path / "docs")
        (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{text}\n")
        return build(tmp_path / "docs", tmp_path / "built")

    return page


@pytest.mark.parametrize("broken", ["[a](none.md)", "[a](#none)", "![a](none.png)"])
def test_a_broken_link_fails_the_build(page, broken):
    done = page(broken)
    assert done.returncode != 0 and "none" in done.stderr


class Fetched(html.parser.HTMLParser):
    """Addresses that a page loads by itself."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("script", "img", "iframe") or (tag == "link" and attrs.get("rel") in ("stylesheet", "preload")):
            self.addresses.append(attrs.get("src") or attrs.get("href") or "")


def test_pages_ask_nothing_of_other_hosts(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for path in pages:
        fetched = Fetched()
        fetched.feed(path.read_text())
        assert not [address for address in fetched.addresses if "//" in address], path


def test_every_loss_has_its_formula(site):
    from siamjax import losses

    text = (site / "api" / "losses.html").read_text()
    for name in losses.__all__:
        _, _, after = text.partition(f'id="siamjax.losses.{name}"')
        assert "<math" in after.partition('id="siamjax.losses.')[0], name


def test_it_reads_on_a_phone_and_a_screen_and_finds_words_offline(site, browser):
    for width in (390, 1280):
        page, errors = browser.new_page(viewport={"width": width, "height": 900}), []
        page.on("console", lambda message, errors=errors: message.type == "error" and errors.append(message.text))
        page.on("request", lambda sent, errors=errors: sent.url.startswith("file:") or errors.append(sent.url))
        for name in ("index", "losses", "api/losses", "first-run", "notebooks/own_loop"):
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
        page.goto((site / "search.html").as_uri() + "?q=lifted")
        page.locator("#search-results").get_by_text("lifted_structure").first.wait_for()
        assert not errors
        page.close()
