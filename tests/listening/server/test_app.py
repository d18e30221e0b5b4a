"""The pages' data, and the list of attacks: each is refused, nothing is stored, and the server goes on."""

import dataclasses
import json
import re

import pytest
from starlette.testclient import TestClient

from mammadai_jax.listening import pairs
from mammadai_jax.listening.server.app import STATIC, application
from mammadai_jax.listening.server.guard import LOOPBACK, MAX_BODY, Buckets
from mammadai_jax.listening.study import StudySettings
from tests.listening.study.conftest import QUICK, clips, filled, study  # noqa: F401

ADDRESS = "http://127.0.0.1:8765"
SAME = {"origin": ADDRESS, "sec-fetch-site": "same-origin"}
PLAYED = [["a", 0, 1], ["b", 0, 1]]


class Browser:
    """A rater's browser."""

    def __init__(self, study):  # noqa: F811
        self.study, self.rater = study, study.invite()
        self.client = TestClient(application(study, LOOPBACK), ADDRESS, raise_server_exceptions=True)

    def enter(self):
        return self.client.get(f"/r/{self.rater.token}")

    def post(self, path, body, **headers):
        return self.client.post(path, json=body, headers=SAME | headers)

    def state(self):
        return self.client.get("/api/state").json()


@pytest.fixture
def browser(study):  # noqa: F811
    one = Browser(study)
    one.enter()
    return one


def test_a_rater_answers_everything_and_the_next_pair_comes_with_the_answer(browser):
    state, nonces = browser.state(), []
    assert state["quota"] == 20 and state["answered"] == 0 and state["learning"] is None
    while state["trial"]:
        trial = state["trial"]
        assert browser.client.get(trial["a"]["audio"]).content[:4] == b"RIFF"
        nonces.append(trial["nonce"])
        body = {"nonce": trial["nonce"], "choice": "b", "strength": 3, "played": PLAYED}
        state = browser.post("/api/answer", body).json()
    assert len(set(nonces)) == 3 and state["answered"] == 3
    assert [one.extra["strength"] for one in browser.study.comparisons()] == [3, 3, 3]
    state = browser.post("/api/undo", {}).json()
    assert state["answered"] == 2 and state["trial"]["nonce"] not in nonces


def test_a_rater_goes_on_where_the_page_was_closed(browser):
    trial = browser.state()["trial"]
    browser.post("/api/played", {"nonce": trial["nonce"], "played": [["b", 0, 1.5]]})
    other = TestClient(application(browser.study, LOOPBACK), ADDRESS)
    assert other.get("/api/state").status_code == 401
    other.get(f"/r/{browser.rater.token}")
    again = other.get("/api/state").json()["trial"]
    assert again["nonce"] == trial["nonce"] and again["b"]["played"] == 1.5


def test_more_is_answered_only_when_the_quota_is_reached(study):  # noqa: F811
    browser = Browser(study)
    browser.rater = study.invite(quota=1)
    browser.enter()
    assert browser.post("/api/more", {}).json()["quota"] == 1
    state = browser.state()
    state = browser.post("/api/answer", {"nonce": state["trial"]["nonce"], "choice": "tie"}).json()
    assert state["trial"] is None
    state = browser.post("/api/more", {}).json()
    assert state["quota"] == 11 and state["trial"]


def test_the_page_says_nothing_about_who_composed(browser):
    text = json.dumps(browser.state())
    assert "old" not in text and "new" not in text and "system" not in text


def test_results_are_for_the_researcher_only(browser):
    for path in ("/api/results", "/api/comparisons.jsonl"):
        assert browser.client.get(path).status_code == 401
    assert browser.client.get(f"/results/{browser.rater.token}").status_code == 404
    browser.post("/api/answer", {"nonce": browser.state()["trial"]["nonce"], "choice": "a", "played": PLAYED})
    researcher = TestClient(application(browser.study, LOOPBACK), ADDRESS)
    assert "results.js" in researcher.get(f"/results/{browser.study.admin_token}").text
    results = researcher.get("/api/results").json()
    assert results["answers"] == 1 and [row["answers"] for row in results["raters"]] == [1]
    lines = researcher.get("/api/comparisons.jsonl").text
    path = browser.study.folder / "exported.jsonl"
    path.write_text(lines)
    assert pairs.read(path) == browser.study.comparisons()


def test_links_leave_cookies_that_scripts_and_other_sites_do_not_get(study):  # noqa: F811
    browser = Browser(study)
    cookie = browser.enter().headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    secure = TestClient(application(study), "https://music.example")
    assert "secure" in secure.get(f"/r/{browser.rater.token}").headers["set-cookie"].lower()


# Attacks

FORGED = [
    ("another site's page", {"origin": "http://evil.example"}, 403),
    ("a page without an origin", {"origin": ""}, 403),
    ("another port", {"origin": "http://127.0.0.1:1"}, 403),
    ("a site that says so", {"sec-fetch-site": "cross-site"}, 403),
    ("a form", {"content-type": "application/x-www-form-urlencoded"}, 415),
    ("a form as text", {"content-type": "text/plain"}, 415),
    ("another name for this address", {"host": "evil.example", "origin": "http://evil.example"}, 421),
    ("no name", {"host": "["}, 421),
]


@pytest.mark.parametrize(("headers", "status"), [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_messages_from_elsewhere_are_refused(browser, headers, status):
    nonce = browser.state()["trial"]["nonce"]
    answer = browser.post("/api/answer", {"nonce": nonce, "choice": "a", "played": PLAYED}, **headers)
    assert answer.status_code == status and browser.study.count("answers") == 0
    assert browser.state()["trial"]["nonce"] == nonce


BODIES = [
    (b"", 409),
    (b"{", 409),
    (b"[]", 409),
    (b"3", 409),
    (b"\xff\xfe", 409),
    (b"[" * 60_000, 409),
    (b'{"nonce": "x", "choice": "a"}', 409),
    (b'{"nonce": {"$ne": 1}, "choice": "a"}', 409),
    (b'{"nonce": "\\u0000", "choice": "a", "strength": 1e99}', 409),
    (b'{"nonce": "x", "choice": "a", "played": [["a", 0, Infinity]]}', 409),
    (b" " * (MAX_BODY + 1), 413),
]


@pytest.mark.parametrize(("body", "status"), BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("path", ["/api/answer", "/api/played"])
def test_bodies_that_are_no_answer_are_refused(browser, path, body, status):
    headers = SAME | {"content-type": "application/json"}
    assert browser.client.post(path, content=body, headers=headers).status_code == status
    assert browser.study.count("answers") == 0 and browser.study.database.rows("SELECT * FROM events") == []


def test_a_body_that_says_it_is_short_and_goes_on_is_refused(browser):
    endless = (b"x" * 10_000 for _ in range(100))
    headers = SAME | {"content-type": "application/json"}
    assert browser.client.post("/api/answer", content=endless, headers=headers).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/audio/../study.db",
        "/audio/..%2f..%2fstudy.db.wav",
        "/audio/%2fetc%2fpasswd.wav",
        "/sheet/..%2fstudy.db.svg",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/rate.html%00",
        "/audio/" + "0" * 64 + ".wav",
        "/study.db",
        "/r/",
        "/r/wrong",
        "/r/" + "x" * 10_000,
        "/results/wrong",
        "/results/",
    ],
)
def test_paths_lead_nowhere(browser, path):
    answer = browser.client.get(path)
    assert answer.status_code == 404 and b"SQLite" not in answer.content and b"import" not in answer.content
    assert "set-cookie" not in answer.headers


def test_other_methods_are_refused(browser):
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        assert browser.client.request(method, "/api/answer", headers=SAME).status_code == 405


def test_a_nonce_is_used_once_by_the_one_who_got_it(browser):
    other = Browser(browser.study)
    other.enter()
    nonce = browser.state()["trial"]["nonce"]
    body = {"nonce": nonce, "choice": "a", "played": PLAYED}
    assert other.post("/api/answer", body).status_code == 409
    assert browser.post("/api/answer", body).status_code == 200
    assert browser.post("/api/answer", body).status_code == 200  # the same, sent again
    assert browser.post("/api/answer", body | {"choice": "b"}).status_code == 409
    assert browser.study.count("answers") == 1


def test_markup_is_text(tmp_path, clips):  # noqa: F811
    markup = "<img src=x onerror=alert(1)>"
    settings = dataclasses.replace(QUICK, title=markup, question=markup)
    with filled(tmp_path / "study", clips, settings) as made:
        made.add(markup, clips[0], clips[1], systems=(markup, "x"))
        browser = Browser(made)
        page = browser.enter()
        assert markup not in page.text and browser.state()["title"] == markup
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"


def test_scripts_set_text_only_and_nothing_comes_from_elsewhere():
    for path in STATIC.iterdir():
        text = path.read_text()
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert word not in text, path.name
        elsewhere = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text)
        assert [one for one in elsewhere if "www.w3.org" not in one] == [], path.name
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", text.partition("</head>")[0]), (
            path.name
        )


def test_ranges_are_not_served_so_that_many_cost_nothing(browser):
    sound = browser.state()["trial"]["a"]["audio"]
    whole = browser.client.get(sound)
    flood = {"range": "bytes=" + ",".join(f"{n}-{n}" for n in range(5000))}
    answer = browser.client.get(sound, headers=flood)
    assert answer.status_code == 200 and answer.content == whole.content
    assert "immutable" in whole.headers["cache-control"]


def test_requests_are_limited_by_token(browser):
    browser.client.app.buckets = Buckets(rate=0, burst=5)
    statuses = [browser.client.get("/static/icon.svg").status_code for _ in range(8)]
    assert statuses == [200] * 5 + [429] * 3
    other = Browser(browser.study)
    assert other.enter().status_code == 200


def test_buckets_fill_again_and_do_not_grow(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    buckets = Buckets(rate=2, burst=3)
    assert [buckets.take("x") for _ in range(5)] == [True, True, True, False, False]
    now[0] = 1.0
    assert [buckets.take("x") for _ in range(3)] == [True, True, False]
    for name in range(20_000):
        buckets.take(str(name))
    assert len(buckets._left) <= 10_000


def test_no_address_and_no_browser_is_stored(browser):
    browser.client.get(
        "/", headers={"user-agent": "a browser of one person", "x-forwarded-for": "203.0.113.9"}
    )
    browser.state()
    stored = b"".join(path.read_bytes() for path in browser.study.folder.glob("study.db*"))
    assert b"203.0.113.9" not in stored and b"one person" not in stored and b"testclient" not in stored


def test_answers_need_listening(tmp_path, clips):  # noqa: F811
    with filled(tmp_path / "study", clips, StudySettings(minimum_seconds=1, catch_every=0)) as made:
        browser = Browser(made)
        browser.enter()
        nonce = browser.state()["trial"]["nonce"]
        answer = browser.post("/api/answer", {"nonce": nonce, "choice": "a"})
        assert answer.status_code == 409 and "listen to at least 1 seconds" in answer.json()["error"]
        body = {"nonce": nonce, "choice": "a", "played": [["a", 0, 1], ["b", 0, 1]]}
        assert browser.post("/api/answer", body).status_code == 200
