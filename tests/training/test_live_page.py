"""The page while a training goes on: what it shows, when it is written, and what a stop leaves of it."""

import dataclasses
import re
import shutil
from unittest import mock

import pytest

from mammadai_jax.stages import noise, teach
from mammadai_jax.training import live_page
from mammadai_jax.training.report import audio
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import settings_type
from tests.stages import toy
from tests.training.test_report import Page

STAGES = (noise.STAGE, toy.STAGE)
SETTINGS = settings_type(STAGES)(corpus="embedded", num_samples=2, saved_samples=1)
SECOND = dataclasses.replace(
    toy.STAGE,
    name="second",
    title="Second",
    make_learner=lambda *given: toy.make_learner(*given)._replace(name="second"),
)
THREE = (*STAGES, SECOND)
THREE_SETTINGS = settings_type(THREE)(corpus="embedded", num_samples=2, saved_samples=1)


def progress(source):
    """What a page says of the training: its sentences and the classes of its stages; None if it has ended."""
    parsed = Page(source)
    sections = parsed.all("section", class_="progress")
    if not sections:
        return None
    said = re.search(r'class="progress".*?<p>(.*?)</p>\s*<ol>(.*?)</ol>', source, re.DOTALL)
    classes = re.findall(r"<li(?: class=\"(\w+)\")?", said[2])
    return " ".join(re.sub(r"<.*?>", "", said[1]).split()), classes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two stages, its pages in the order of their writing, and how often sound was rendered."""
    out, pages = tmp_path_factory.mktemp("live") / "run", []
    write, rendered = live_page.write, mock.Mock(side_effect=audio.render)

    def recorded(path, *given):
        write(path, *given)
        pages.append(path.read_text())

    with mock.patch.object(live_page, "write", recorded), mock.patch.object(audio, "render", rendered):
        teach(SETTINGS, out, STAGES)
    return out, pages, rendered.call_count


def dying(update, error, stage="toy", before=lambda: None):
    """Within, a run stops after the log row of an update of a stage."""
    log = Run.log

    def logged(self, name, at, *given):
        log(self, name, at, *given)
        if (name, at) == (stage, update):
            before()
            raise error

    return mock.patch.object(Run, "log", logged)


def test_the_page_is_written_at_once_and_after_every_stage(run):
    said = [progress(page) for page in run[1]]
    assert [classes for _, classes in said[:3]] == [["learns", ""], ["ended", "learns"], ["ended", "ended"]]
    assert said[1][0].startswith("Learning now: Toy. ") and " As of 20" in said[1][0]
    assert said[2][0].startswith("All stages have ended. ")
    assert said[3:] == [None] and run[1][3] == (run[0] / "report.html").read_text()


def test_every_stage_can_be_heard_when_it_has_ended(run):
    heard = [[attrs["id"] for attrs, _ in Page(page).all("audio")] for page in run[1]]
    assert heard == [[], ["stage0-0"], ["stage0-0", "stage1-0"], ["stage0-0", "stage1-0", "corpus-0"]]
    titles = {Page(page).all("title")[0][1] for page in run[1]}
    assert titles == {"MammadAI: from noise to toy"}


def test_no_sound_is_rendered_twice(run):
    assert run[2] == len(Page(run[1][-1]).all("audio"))


def test_the_address_is_said_before_anything_is_learned(tmp_path, capsys):
    with dying(2, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        teach(SETTINGS, tmp_path / "a run", STAGES)
    lines = capsys.readouterr().err.splitlines()
    address = f"page: {(tmp_path / 'a run' / 'report.html').as_uri()} shows each stage as it ends"
    assert lines.index(address) < lines.index("report: noise composes 2 melodies")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "was interrupted; go on with `mammadai teach --out "),
        (ArithmeticError("it <diverged>"), "stopped: it &lt;diverged&gt;. As of "),
    ],
)
def test_a_training_that_stops_says_so_and_goes_on_when_it_is_resumed(tmp_path, error, reason):
    with dying(2, error), pytest.raises(type(error)):
        teach(SETTINGS, tmp_path, STAGES, save_seconds=0.0)
    page = (tmp_path / "report.html").read_text()
    said, classes = progress(page)
    assert said.startswith(f"The training {reason}")
    assert classes == ["ended", ""] and "learns now" not in page
    assert Page(page).all("section", class_="progress")[0][0]["data-stopped"]
    teach(SETTINGS, tmp_path, STAGES, resume=True)
    assert progress((tmp_path / "report.html").read_text()) is None


def test_the_page_of_a_run_that_has_ended_stays_until_as_much_can_be_shown_again(run, tmp_path):
    again = shutil.copytree(run[0], tmp_path / "again")
    composing = mock.patch.object(live_page, "write_samples", side_effect=ValueError("it cannot compose"))
    with composing, pytest.raises(ValueError, match="it cannot compose"):
        teach(SETTINGS, again, STAGES, resume=True)
    assert (again / "report.html").read_bytes() == (run[0] / "report.html").read_bytes()


def test_a_page_stays_when_its_run_goes_on_but_for_the_progress(tmp_path):
    """Nothing that ended before composes again until another stage has ended, however often a run starts."""
    page, pages = tmp_path / "report.html", []
    with dying(2, KeyboardInterrupt(), "second"), pytest.raises(KeyboardInterrupt):
        teach(THREE_SETTINGS, tmp_path, THREE, save_seconds=0.0)
    stopped, composing = page.read_text(), mock.Mock(side_effect=live_page.write_samples)
    with (
        dying(2, KeyboardInterrupt(), "second", lambda: pages.append(page.read_text())),
        mock.patch.object(live_page, "write_samples", composing),
        pytest.raises(KeyboardInterrupt),
    ):
        teach(THREE_SETTINGS, tmp_path, THREE, resume=True)
    assert progress(pages[0]) == (mock.ANY, ["ended", "ended", "learns"])
    assert progress(page.read_text())[0].startswith("The training was interrupted")
    plain = [
        re.sub(r'class="progress".*?</section>', "", each, flags=re.DOTALL) for each in (stopped, *pages)
    ]
    assert plain[0] == plain[1] and len(Page(stopped).all("audio")) == 2 and not composing.called
    teach(THREE_SETTINGS, tmp_path, THREE, resume=True)
    assert len(Page(page.read_text()).all("audio")) == 4
