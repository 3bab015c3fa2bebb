"""The page in a real browser: light and dark, on a wide screen and on a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Browser, chromium
from g2t.report import report
from made import evaluation, keep, scores, timed, worsened

SCREENS = [(width, scheme) for width in (1280, 375) for scheme in ("light", "dark")]
HOSTILE = 'evaluation-<img src="x" onerror="document.title=1"> $x_1$ and a very long name of a row'

#: What does not fit: HTML wider than its box unless it scrolls, SVG text outside its drawing.
MISFITS = """
(() => {
  const found = [];
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > wide) found.push("the page scrolls sideways");
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest(".scroll") || element.closest("svg")) continue;
    const box = element.getBoundingClientRect();
    if (box.right > wide + 1 || box.left < -1) found.push("out: " + element.outerHTML.slice(0, 80));
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0
        && getComputedStyle(element).display !== "inline")
      found.push("over: " + element.outerHTML.slice(0, 80));
  }
  for (const svg of document.querySelectorAll(".panel svg")) {
    const room = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.left < room.left - 1 || box.right > room.right + 1
          || box.top < room.top - 1 || box.bottom > room.bottom + 1)
        found.push("svg text: " + text.textContent);
    }
  }
  return found;
})()
"""

#: Ticks of one axis that lie on each other.
COLLISIONS = """
(() => {
  const found = [];
  for (const svg of document.querySelectorAll(".panel svg")) {
    const boxes = [...svg.querySelectorAll("text")]
      .map(text => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
      const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const along = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (across > 1 && along > 4) found.push(a + " on " + b);
    }));
  }
  return found;
})()
"""

#: Numbers that stand twice at one axis: their differences would be rounded away.
TWINS = """
[...document.querySelectorAll("figure:not([id$=card]) .panel svg")].flatMap(svg => {
  const ends = [...svg.querySelectorAll("text")].filter(text => text.style.textAnchor === "end")
    .map(text => text.textContent);
  return ends.filter((text, i) => ends.indexOf(text) !== i);
})
"""

FIGURES = """
[...document.querySelectorAll("figure")].map(figure => ({
  name: figure.id.replace(/^c\\d+-/, ""),
  caption: figure.querySelector("figcaption").textContent.length,
  boxes: [...figure.querySelectorAll(".panel svg")].map(svg => {
    const box = svg.getBoundingClientRect();
    return [box.width, box.height];
  }),
  named: [...figure.querySelectorAll(".panel svg")].every(
    svg => svg.getAttribute("role") === "img" && svg.getAttribute("aria-label").length > 10),
}))
"""

#: The contrast (WCAG 2) of every letter of a drawing with the page, least first.
CONTRAST = """
(() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = light(getComputedStyle(document.body).backgroundColor);
  const ratio = colour => {
    const own = light(colour);
    return (Math.max(own, back) + 0.05) / (Math.min(own, back) + 0.05);
  };
  const letters = [...document.querySelectorAll(".panel svg text")]
    .map(text => ratio(getComputedStyle(text).fill));
  const marks = [...document.querySelectorAll(".swatch path, .swatch circle")]
    .flatMap(mark => [getComputedStyle(mark).fill, getComputedStyle(mark).stroke])
    .filter(colour => colour.startsWith("rgb(")).map(ratio);
  return {back, letters: Math.min(...letters), marks: Math.min(...marks), count: letters.length};
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def full(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of every part there is: cost and robustness are made up."""
    home = tmp_path_factory.mktemp("full")
    for name, hops in (("hop", 2), ("mlp", None)):
        record = small / f"run/seed-0/evaluation-{name}"
        made, student = _content(record)
        made["robust"] = worsened([0.5, 0.4, 0.3], [0.6, 0.5, 0.2])
        keep(home / f"cost/evaluation-{name}", made, student, timed(0.31, [12.0, 14.5], hops))
    report([small / "run", small / "later", home / "cost"], home / "report")
    return home / "report/index.html"


def _content(folder: Path) -> tuple[dict[str, Any], str]:
    from g2t.artifact import open_artifact, read_json

    found = open_artifact(folder, "evaluation")
    return read_json(folder / "evaluation.json"), found.inputs["student"]


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_everything_is_there_fits_and_can_be_read(
    browser: Browser, full: Path, width: int, scheme: str
) -> None:
    browser.show(full, width, scheme)
    figures = browser.value(FIGURES)
    names = ["card", "latency", "degree", "hops", "robust", "curves", "projection"]
    assert [figure["name"] for figure in figures] == names
    for figure in figures:
        assert figure["boxes"]
        assert min(min(box) for box in figure["boxes"]) > 60, figure
        assert figure["named"]
        assert figure["caption"] > 20
    assert browser.value(MISFITS) == []
    assert browser.value(COLLISIONS) == []
    assert browser.value(TWINS) == []
    seen = browser.value(CONTRAST)
    assert (seen["back"] < 0.1) == (scheme == "dark")
    assert seen["count"] > 50
    assert seen["letters"] >= 4.5
    assert seen["marks"] >= 3
    _is_quiet(browser, full)


def _is_quiet(browser: Browser, path: Path) -> None:
    """Check that the browser complained of nothing and fetched nothing but the page."""
    assert [entry["entry"]["text"] for entry in browser.said("Log.entryAdded")] == []
    assert browser.said("Runtime.consoleAPICalled") == []
    assert browser.said("Runtime.exceptionThrown") == []
    asked = {event["request"]["url"] for event in browser.said("Network.requestWillBeSent")}
    assert asked <= {path.as_uri()}


def test_names_from_outside_are_text_and_fit(browser: Browser, tmp_path: Path) -> None:
    for seed in (0, 1):
        made = evaluation(seed, scores("hop", 0.8 + seed / 10, [0.5, 0.8]), 0.7)
        made["graph"] = "<b>&amp;</b>" + "a" * 80
        made["robust"] = worsened([0.8, 0.1], [0.9, 0.2])
        keep(tmp_path / f"seed-{seed}" / HOSTILE, made, str(seed), timed(0.5, [3.0]))
    report([tmp_path], tmp_path / "out")
    path = tmp_path / "out/index.html"
    for width in (1280, 375):
        browser.show(path, width, "light")
        assert browser.value("document.querySelectorAll('img, script, h1 b').length") == 0
        assert "<b>&amp;</b>" in browser.value("document.querySelector('h1').textContent")
        assert "$x_1$" in browser.value("document.querySelector('tbody').textContent")
        assert browser.value(MISFITS) == []
        _is_quiet(browser, path)


def test_many_students_and_tables_fit_too(browser: Browser, tmp_path: Path) -> None:
    for graph in ("a", "b"):
        for number in range(11):
            made = evaluation(0, scores("mlp", 0.5 + number / 50), 0.7)
            folder = tmp_path / graph / f"evaluation-{number}"
            keep(folder, {**made, "graph": graph}, f"{graph}{number}", timed(0.1 + number, [9.0]))
    report([tmp_path], tmp_path / "out")
    browser.show(tmp_path / "out/index.html", 375, "dark")
    assert browser.value("document.querySelectorAll('nav a').length") == 2
    assert browser.value("document.querySelectorAll('.headline tbody tr').length") == 2 * 12
    assert browser.value("document.querySelectorAll('#c0-latency .key li').length") == 1 + 8
    assert "other 3" in browser.value("document.querySelector('#c0').textContent")
    assert browser.value(MISFITS) == []
