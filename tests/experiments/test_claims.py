import numpy as np
import pytest

from experiments import claims
from mammadai_jax.music import captions
from mammadai_jax.music.notes import HOLD, MAGENTA


def tune(pitch):
    events = np.full(96, HOLD)
    events[::4] = pitch
    return MAGENTA.encode(events)


def test_shares_are_of_the_melodies_of_which_something_is_claimed():
    codes = captions.encode(
        [{"register": "low"}, {"register": "low", "kind": "jig"}, {"repetition": "varied"}]
    )
    found = claims.by_kind(codes, np.stack([tune(55), tune(76), tune(55)]))
    assert found == {"register": (0.5, 2), "repetition": (0.0, 1)}


def test_the_table_has_intervals_over_runs_or_over_prompts():
    one = {
        name: {"register": (0.5, 100), "mode": (0.9, 100)} for name in (claims.UNPROMPTED, claims.PROMPTED)
    }
    other = {name: {"register": (0.7, 100), "mode": (0.9, 100)} for name in one}
    alone = claims.page([one], 300).splitlines()
    assert alone[0] == "1 run, 300 prompts each." and alone[2] == "| kind | unprompted | prompted |"
    assert "| register | 50.0 ± 9.8 | 50.0 ± 9.8 |" in alone and alone[-1] == "| mean | 70.0 | 70.0 |"
    both = claims.page([one, other], 300).splitlines()
    assert both[0] == "2 runs, 300 prompts each."
    half = 100 * 0.1 * 12.7062  # Student's t with one degree of freedom
    assert f"| register | 60.0 ± {half:.1f} | 60.0 ± {half:.1f} |" in both


@pytest.mark.nightly
def test_the_systems_of_a_run_are_measured(taught):
    found = claims.shares(taught, 4)
    names = [claims.UNPROMPTED, "prompted", "prompted, best of 16", "preference", "preference, best of 16"]
    assert list(found) == names
    for kinds in found.values():
        assert kinds and all(0 <= share <= 1 and count >= 1 for share, count in kinds.values())
    assert claims.page([found], 4).count("±") == len(names) * len(found["prompted"])


def test_prompts_are_refused(monkeypatch):
    monkeypatch.setattr("sys.argv", ["claims", "nowhere", "--out", "nowhere", "--prompts", "0"])
    with pytest.raises(ValueError, match="--prompts is 1 or more, not 0"):
        claims.main()
