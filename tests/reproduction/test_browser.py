"""The page of `dinotools report` in a real browser: it opens from disk, asks for nothing, and can be read anywhere."""

import io
import shutil
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinotools.reproduction import page, training
from tests.reproduction import sample
from tests.reproduction.test_training import make_run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
FLAGS += ("--disable-sync", "--no-first-run")
VIEWS = {"wide": (1100, 800, "light"), "dark": (1100, 800, "dark"), "phone": (360, 740, "light")}

# how text stands out, by WCAG 2.2, over the nearest ground that is not transparent
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const [r, g, b] = numbers(colour).map((v) => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const written = (e) => own(e) && !e.matches("script, style, .mark");
  const seen = [...document.body.querySelectorAll("*")].filter(written);
  return seen.map((e) => {
    const style = getComputedStyle(e);
    const [a, b] = [luminance(e.closest("svg") ? style.fill : style.color), luminance(ground(e))].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), e.outerHTML.slice(0, 80)];
  });
}"""


@dataclass
class Seen:
    """A page that is open in a view, and what happened as it opened."""

    tab: object
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def note(self, said) -> None:
        self.complaints.append(str(said))

    def look(self, route) -> None:
        """Lets a request pass that stays on this machine."""
        self.requests.append(route.request.url)
        local = route.request.url.startswith(("file:", "data:"))
        route.continue_() if local else route.abort()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("results")
    compared = sample.comparison(root)
    collapsed = make_run(root / "runs" / "flat", entropy=0.98, kl=0.001, teacher_temp=0.1, warmup_teacher_temp=0.1)
    runs = training.read_runs([make_run(root / "runs" / "mine"), collapsed])
    path = root / "report" / "index.html"
    page.write_page(path, compared, runs)
    return path


@pytest.fixture(scope="module")
def views(report):
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium here: install it to see the report in a browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        opened = {}
        for name, (width, height, scheme) in VIEWS.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            seen = opened[name] = Seen(context.new_page())
            seen.tab.on("console", seen.note)
            seen.tab.on("pageerror", seen.note)
            seen.tab.route("**/*", seen.look)
            seen.tab.goto(report.as_uri())
        yield opened
        browser.close()


@pytest.mark.parametrize("view", VIEWS)
def test_it_opens_without_a_word_and_asks_for_nothing(views, report, view):
    seen = views[view]
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [report.as_uri()]
    assert (
        seen.tab.evaluate("performance.getEntriesByType('resource').filter((e) => !/^(data|file):/.test(e.name))") == []
    )


def test_every_link_resolves(views, report):
    hrefs = views["wide"].tab.evaluate(
        "[...document.querySelectorAll('a[href]')].map((a) => [a.getAttribute('href'), a.href])"
    )
    assert any("embedding.html" in relative for relative, _ in hrefs)
    for relative, absolute in hrefs:
        if relative.startswith("#"):
            assert views["wide"].tab.evaluate("(id) => !!document.getElementById(id)", relative[1:]), relative
        else:
            assert (report.parent / relative).is_file(), absolute


def test_pictures_are_there_and_are_told_in_words(views):
    tab = views["wide"].tab
    images = tab.evaluate("[...document.images].map((i) => [i.alt, i.naturalWidth, i.src.slice(0, 11)])")
    assert len(images) > 10
    assert all(alt and width > 0 and kind == "data:image/" for alt, width, kind in images)
    charts = tab.evaluate(
        "[...document.querySelectorAll('svg')].map((s) => [s.getAttribute('role'), s.getAttribute('aria-label'),"
        " s.getBoundingClientRect().height, s.querySelectorAll('path, use').length])"
    )
    assert len(charts) > 8
    assert all(role == "img" and len(label) > 20 and height > 50 and marks > 5 for role, label, height, marks in charts)
    assert len({label for _, label, *_ in charts}) == len(charts)


def test_headings_and_landmarks_are_in_order(views):
    tab = views["wide"].tab
    levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3, h4, h5')].map((h) => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    landmarks = tab.evaluate("[...document.body.children].map((e) => e.tagName).filter((n) => n !== 'SCRIPT')")
    assert landmarks == ["HEADER", "NAV", "MAIN", "FOOTER"]


def test_a_phone_scrolls_one_way(views):
    tab = views["phone"].tab
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    beyond = tab.evaluate(
        "[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > 361"
        " && !e.closest('.scroll, svg, thead')).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert beyond == []
    smallest = tab.evaluate(
        "Math.min(...[...document.querySelectorAll('.charts svg text')].map((t) => t.getBoundingClientRect().height))"
    )
    assert smallest >= 8


@pytest.mark.parametrize("view", VIEWS)
def test_text_stands_out(views, view):
    contrasts = views[view].tab.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [(round(value, 2), what) for value, what in contrasts if value < 4.5] == []


def test_dark_is_dark_and_charts_follow(views):
    def colours(view):
        return views[view].tab.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('.chart text')).fill,"
            " ...[...document.querySelectorAll('.chart path')].map((p) => getComputedStyle(p).stroke)]"
        )

    light, dark = colours("wide"), colours("dark")
    assert light[0] != dark[0] and light[1] != dark[1]
    followed = {(a, b) for a, b in zip(light[2:], dark[2:], strict=True) if a != "none" and a != b}
    assert len(followed) >= 3  # ink and the colours of two runs


def test_what_is_folded_opens_where_a_link_leads(views):
    tab = views["wide"].tab
    link = tab.locator("main a[href^='#result-']").first
    target = link.get_attribute("href")
    assert not tab.locator(target).is_visible()
    link.click()
    tab.locator(target).wait_for(state="visible", timeout=2000)
    assert "sha256" in tab.locator(target).inner_text()


@pytest.mark.parametrize("view", VIEWS)
def test_a_screenshot_is_not_blank(views, view):
    image = np.asarray(Image.open(io.BytesIO(views[view].tab.screenshot(full_page=True))).convert("L"), float)
    assert image.shape[1] == VIEWS[view][0] and image.shape[0] > 2000
    bands = np.array_split(image, 8)
    assert all(band.std() > 5 for band in bands)
    assert (image.mean() < 90) == (view == "dark")


def test_it_prints(views):
    tab = views["dark"].tab
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.locator("nav").is_visible()
    assert tab.pdf(format="A4").startswith(b"%PDF")
    tab.emulate_media(media="screen")
