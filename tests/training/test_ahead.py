import threading

import jax
import pytest

from mammadai_jax import stages
from mammadai_jax.stages import STAGES, divided
from mammadai_jax.training import ahead, loop, teach
from mammadai_jax.training.context import context_of
from tests.training import tiny


def test_jobs_are_done_in_their_order_but_for_needless_ones():
    done, first_may_end, third_has_ended = [], threading.Event(), threading.Event()

    def first():
        first_may_end.wait()
        done.append("first")
        raise ValueError("not heard")

    def third():
        done.append("third")
        third_has_ended.set()

    with ahead.Ahead() as work:
        work.start({"first": first, "second": lambda: done.append("second"), "third": third})
        work.begins("second")
        work.begins("of no job")
        first_may_end.set()
        work.begins("first")
        assert "first" in done
        third_has_ended.wait()
    assert done == ["first", "third"]


def test_at_the_end_the_job_at_hand_is_waited_for_and_no_other_begins():
    done, has_begun, may_end = [], threading.Event(), threading.Event()

    def job():
        has_begun.set()
        may_end.wait()
        done.append("at hand")

    with ahead.Ahead() as work:
        work.start({"at hand": job, "later": lambda: done.append("later")})
        has_begun.wait()
        threading.Timer(0.05, may_end.set).start()
    assert done == ["at hand"]


def test_an_interruption_does_not_wait():
    may_end = threading.Event()
    with pytest.raises(KeyboardInterrupt), ahead.Ahead() as work:
        work.start({"at hand": may_end.wait})
        raise KeyboardInterrupt
    may_end.set()


def test_without_a_cache_nothing_is_compiled_ahead(monkeypatch):
    monkeypatch.setattr(ahead, "can_be_kept", lambda: False)
    assert teach.later_programs({}, context_of(*divided(tiny.ROAD), "nowhere"), {"prior": None}) == {}


FEW = ("prior", "theory")


@pytest.mark.parametrize("names", [FEW, pytest.param(None, marks=pytest.mark.nightly)])
def test_a_stage_asks_for_the_programs_that_were_compiled(names, taught, monkeypatch):
    """Their text is the same, so that the cache has them, whatever the thread cannot know of parameters."""
    run, parts = divided(stages.only(tiny.ROAD, names) if names else tiny.ROAD)
    context, asked = context_of(run, parts, taught), []
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda lowered: asked.append(lowered.as_text()))
    traced = teach.dry_run(parts, context)
    jobs = teach.later_programs(parts, context, traced)
    alone = {spec.name for spec in STAGES if spec.example or not spec.make_learner}
    assert set(jobs) == set(traced) - {"prior"} - alone
    for name, job in jobs.items():
        asked.clear()
        job()
        spec, own = parts[name]
        learner = spec.make_learner(own, context, spec.data(own, context))
        ahead_of_time, state = list(asked), jax.eval_shape(learner.init)
        asked.clear()
        lengths = {min(learner.chunk, learner.updates), learner.updates % learner.chunk} - {0}
        for length in sorted(lengths, reverse=True):
            loop.program(learner, state, length)
        assert asked == ahead_of_time
