"""A person's session in a real browser: Debian's chromium driven by playwright. Skipped without either."""

import shutil
import threading
import time

import pytest
import uvicorn

from mammadai_jax.listening.server.app import application
from mammadai_jax.listening.server.guard import LOOPBACK
from mammadai_jax.listening.server.run import listening_socket
from mammadai_jax.listening.study import Study, StudySettings, clip_of
from tests.listening.study.conftest import sample

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.nightly, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

PLAYER = "document.getElementById('main').player"
SIZES = {"wide": {"width": 1200, "height": 850}, "phone": {"width": 390, "height": 844}}
# while it plays: the position, half a second, a switch, and how far from the same position that led (seconds)
SWITCH = f"""async () => {{
  const player = {PLAYER}, wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const seconds = () => player.position() * player.clips[player.side].barSeconds;
  const begun = player.context.currentTime, from = player.position();
  await wait(500);
  const before = player.position(), then = player.context.currentTime;
  document.getElementById("switch").click();
  await wait(60);
  const passed = (player.context.currentTime - then) / player.clips[player.side].barSeconds;
  return {{
    moved: (then - begun) > 0 ? (before - from) * player.clips.a.barSeconds / (then - begun) : 0,
    error: (player.position() - before - passed) * player.clips[player.side].barSeconds,
  }};
}}"""


@pytest.fixture
def study(tmp_path):
    settings = StudySettings(minimum_seconds=0.5, catch_every=0)
    with Study.create(tmp_path / "study", settings) as made:
        for index in range(20):
            a = clip_of(sample(60 + index % 5, 64, 67, 72 - index % 3, tempo=120.0))
            b = clip_of(sample(60, 64 + index % 7, 67, 60 + index % 11, tempo=132.0))
            made.add(f"tune {index}", a, b, systems=("new", "old"))
        yield made


@pytest.fixture
def address(study):
    """Of the study's pages, served by a thread."""
    listener = listening_socket("127.0.0.1", 0)
    config = uvicorn.Config(application(study, LOOPBACK), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture
def chromium():
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def until(page, condition, seconds=60):
    """Wait until an expression holds; playwright's own way needs eval, which the page's policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def opened(chromium, link, size="wide"):
    """A page under a link, whose errors fail the test."""
    page = chromium.new_context(viewport=SIZES[size]).new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
    page.goto(link)
    until(page, f"{PLAYER}.ready")
    return page


def hear_both(page):
    """Listen to the least that is asked for."""
    page.keyboard.press("a")
    until(page, f"{PLAYER}.seconds('a') > 0.6")
    page.keyboard.press("x")
    until(page, f"{PLAYER}.seconds('b') > 0.6")


def test_a_session_by_keyboard_and_mouse(chromium, study, address):
    rater = study.invite(quota=20)
    link = f"{address}/r/{rater.token}"
    page = opened(chromium, link)
    page.click("#begin")
    errors = []
    for number in range(20):
        until(
            page,
            f"{PLAYER}.ready && document.getElementById('count').textContent.includes('{number + 1} of')",
        )
        hear_both(page)
        if number < 3:
            measured = page.evaluate(SWITCH)
            errors.append(measured["error"])
            assert 0.8 < measured["moved"] < 1.2, measured
        if number == 9:  # a reload in the middle
            page.reload()
            until(page, f"{PLAYER}.ready")
            assert page.evaluate(f"{PLAYER}.seconds('a')") > 0.5
        if number % 2:
            page.keyboard.press(str(1 + number % 7))
        else:
            until(page, "document.querySelector('#scale button').getAttribute('aria-disabled') === 'false'")
            page.click(f"#scale button:nth-child({1 + number % 7})")
        deadline = time.monotonic() + 20
        while study.count("answers") <= number and time.monotonic() < deadline:
            page.wait_for_timeout(20)
        assert study.count("answers") == number + 1
    page.wait_for_selector("#pause:not([hidden])")
    assert max(map(abs, errors)) < 0.03, errors
    assert page.errors == []
    comparisons = study.comparisons()
    assert len({one.prompt for one in comparisons}) == 20
    assert all(one.seconds_a >= 0.5 and one.seconds_b >= 0.5 for one in comparisons)


def test_a_phone_needs_no_scrolling_sideways_and_everything_has_a_name(chromium, study, address):
    page = opened(chromium, f"{address}/r/{study.invite().token}", "phone")
    page.click("#begin")
    page.keyboard.press("s")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    nameless = page.evaluate(
        "[...document.querySelectorAll('button')].filter((one) => one.offsetParent && "
        "!one.textContent.trim() && !one.getAttribute('aria-label')).length"
    )
    small = page.evaluate(
        "[...document.querySelectorAll('button')].filter((one) => one.offsetParent && "
        "one.getBoundingClientRect().height < 40).map((one) => one.id)"
    )
    assert nameless == 0 and small == [] and page.errors == []


def test_undo_and_markup_and_the_researchers_page(chromium, study, address):
    markup = "<img src=x onerror=document.title='broken'>"
    study.database.execute("UPDATE pairs SET prompt = prompt || ?", markup)
    page = opened(chromium, f"{address}/r/{study.invite(quota=2).token}")
    page.click("#begin")
    assert markup in page.text_content("#prompt") and page.title() != "broken"
    hear_both(page)
    page.keyboard.press("7")
    until(page, "document.getElementById('count').textContent.includes('2 of')")
    page.keyboard.press("z")
    until(page, "document.getElementById('count').textContent.includes('1 of')")
    assert study.count("answers") == 0
    page.goto(f"{address}/results/{study.admin_token}")
    page.wait_for_selector("#raters table")
    assert page.errors == []
