"""The report in a real browser: it shows, filters, searches, takes keys, fits a phone and the dark, and runs no stranger's code."""

import json
import shutil

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Debian's chromium and chromium-driver are not installed"
)

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1000",
]
NASTY = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def match(i, contestant):
    outcome = ("win", "loss", "tie")[i % 3]
    point = {"win": 1.0, "loss": 0.0, "tie": 0.5}[outcome]
    reply = NASTY if i == 0 else f"The reply number {i}."
    return {
        "scenario": f"prompt-{i}",
        "repeat": 0,
        "contestant": contestant,
        "baseline": "plain model",
        "baseline_repeat": 0,
        "judge": "pairwise",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Question {i}?"}],
        "reply": reply,
        "baseline_reply": f"The plain reply number {i}.",
        "actions": ["candidate 1"],
        "scores": None,
        "orders": [point, 0.0 if i % 7 == 0 else point],
        "outcome": outcome,
        "consistent": i % 7 != 0 or point == 0.0,
        "failure": None,
        "rationales": [f"Because of {i}.", ""],
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    from duologue.evaluation.report.report import write_report

    folder = tmp_path_factory.mktemp("report")
    records = [match(i, name) for i in range(60) for name in ("trained policy", "random")]
    (folder / "matches.jsonl").write_text("\n".join(map(json.dumps, records)))
    summary = {
        "command": "run",
        "status": "done",
        "seed": 0,
        "wall_s": 12.0,
        "requests": {"paid": 10, "reused": 3, "failed": 0},
        "tokens": {"prompt": 100, "completion": 50},
        "cost_usd": 0.01,
        "alarms": [{"name": "held_out", "rollout": 9, "message": NASTY}],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = ["rollout/ep_rew_mean,reward/rules", "0.1,0.2", "0.3,0.25", "0.4,0.3"]
    (folder / "progress.csv").write_text("\n".join(rows))
    return write_report(folder).as_uri()


@pytest.fixture
def page(browser, report):
    browser.get(report)
    return browser


def texts(page, selector):
    return page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())", selector
    )


def count(page):
    return texts(page, "#count")[0]


def choose(page, name, value):
    page.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event(e.tagName === 'INPUT' ? 'input' : 'change', {bubbles: true}))",
        name,
        value,
    )


def test_it_shows_everything_and_no_stranger_speaks(page):
    assert "The trained policy" in texts(page, "h1")[0]
    assert page.title.startswith("run ")  # not "taken"
    assert NASTY in texts(page, "ol#matches .text")
    assert any(NASTY in text for text in texts(page, ".alarm"))
    assert not page.find_elements("css selector", "main img")
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert len(texts(page, ".leaderboard tbody tr")) == 2
    assert len(texts(page, "figure")) == 2
    assert count(page) == "120 of 120 matches, page 1 of 5"
    assert len(texts(page, "ol#matches > li")) == 25
    assert any("shown first: Because of 1." in text for text in texts(page, "ol#matches .role"))


def test_it_asks_for_nothing(page):
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_matches_are_filtered_and_searched(page):
    choose(page, "who", "random")
    assert count(page) == "60 of 60 matches, page 1 of 3".replace("of 60", "of 120", 1)
    choose(page, "result", "loss")
    assert count(page).startswith("20 of 120 matches")
    choose(page, "search", "QUESTION 4?")
    assert count(page).startswith("1 of 120 matches")
    assert "The reply number 4." in texts(page, "ol#matches .text")
    choose(page, "search", "nowhere to be found")
    assert count(page) == "0 of 120 matches, page 1 of 1"
    choose(page, "search", "")
    choose(page, "result", "inconsistent")
    assert all("orders disagree" in text for text in texts(page, "ol#matches .top"))


def test_it_is_used_by_keyboard(page):
    from selenium.webdriver import ActionChains, Keys

    def press(*keys):
        ActionChains(page).send_keys(*keys).perform()

    def focused():
        return page.execute_script("return document.activeElement.textContent")

    press("/")
    assert page.switch_to.active_element.get_attribute("id") == "search"
    press("number 7.", Keys.ESCAPE)
    assert count(page).startswith("2 of 120 matches")
    press("j", "j")
    assert "random" in focused()
    press("k")
    assert "trained policy" in focused()
    choose(page, "search", "")
    press("n")
    assert count(page).endswith("page 2 of 5")
    press("p")
    assert count(page).endswith("page 1 of 5")


def test_it_fits_a_phone(page):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.refresh()
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        columns = "return getComputedStyle(document.querySelector('.sides')).gridTemplateColumns.split(' ').length"
        assert page.execute_script(columns) == 1
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_the_light_and_in_the_dark(page, scheme):
    """The contrast of text and paper is at least 7 to 1, that of softer text and of results 4.5 (WCAG 2.2)."""
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        style = "return getComputedStyle(document.querySelector(arguments[0])).{}"
        paper = luminance(page.execute_script(style.format("backgroundColor"), "body"))
        assert (paper < 0.2) == (scheme == "dark")
        for selector, least in (("body", 7), (".meta", 4.5), (".win", 4.5), (".loss", 4.5), (".tie", 4.5)):
            ink = luminance(page.execute_script(style.format("color"), selector))
            assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= least, selector
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(colour):
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
