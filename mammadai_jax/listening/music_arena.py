"""Comparisons as Music Arena's records of battles, and back (github.com/gclef-cmu/music-arena).

A battle has a prompt, two pieces of audio with what is known of the systems, and a vote with the events of
listening. Its audio is an address; ours are tokens, which stand in `lyrics` of the metadata, so that nothing
is lost: what has no place of its own is in `feedback`, as JSON.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mammadai_jax.listening.comparison import Comparison, PairsError, short
from mammadai_jax.listening.pairs import parse_melody, spell
from mammadai_jax.music.files import read_text, write_atomically

PREFERENCES = {"a": "A", "b": "B", "tie": "TIE", "both_bad": "BOTH_BAD"}
CHOICES = {name: choice for choice, name in PREFERENCES.items()}
MARK = "mammadai_jax"  # of a feedback that is ours
OWN = (
    "simulated",
    "shown_left",
    "played_first",
    "seconds_a",
    "seconds_b",
    "propensity",
    "timestamp",
    "extra",
)
MAX_BYTES = 1 << 30
NAMESPACE = uuid.UUID("7a1d4a52-5c7c-4b7e-9a38-0d1f5d7a6a11")


def to_battle(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a battle, as JSON has it; PairsError if `extra` cannot be written as JSON."""
    own = {MARK: {name: getattr(comparison, name) for name in OWN}}
    try:
        feedback = json.dumps(own, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise PairsError(f"extra cannot be written as JSON: {error}") from None
    time = _seconds(comparison.timestamp)
    prompt = {"prompt": comparison.prompt}
    user = {"ip": None, "salted_ip": None, "fingerprint": None, "salted_fingerprint": comparison.listener}
    vote = {
        "a_listen_data": _events(comparison.seconds_a, time),
        "b_listen_data": _events(comparison.seconds_b, time),
        "preference": PREFERENCES[comparison.choice],
        "preference_time": time,
        "feedback": feedback,
        "a_feedback": None,
        "b_feedback": None,
        "feedback_time": time,
    }
    identity = json.dumps([prompt, spell(comparison.a), spell(comparison.b), user, vote])
    return {
        "uuid": str(uuid.uuid5(NAMESPACE, identity)),
        "gateway_git_hash": None,
        "prompt": prompt,
        "prompt_detailed": None,
        "prompt_user": None,
        "prompt_session": None,
        "prompt_prebaked": True,
        "prompt_routed": False,
        "a_audio_url": None,
        "a_metadata": _metadata(comparison.a, comparison.system_a),
        "b_audio_url": None,
        "b_metadata": _metadata(comparison.b, comparison.system_b),
        "vote": vote,
        "vote_user": user,
        "vote_session": None,
        "timings": [],
    }


def from_battle(battle: Mapping[str, Any]) -> Comparison:
    """The comparison of a battle; PairsError if it has no vote, or not the tokens of both pieces.

    A battle of Music Arena's own has audio and no tokens: put the tokens of its melodies into `lyrics`.
    """
    try:
        vote, sides = battle["vote"], [battle["a_metadata"], battle["b_metadata"]]
        choice = CHOICES[vote["preference"]]
        prompt = (battle.get("prompt") or battle.get("prompt_detailed") or {}).get("prompt", "")
        melodies = [parse_melody("lyrics", side["lyrics"]) for side in sides]
        systems = [((side.get("system_key") or {}).get("system_tag", "")) for side in sides]
        user = battle.get("vote_user") or {}
        listener = user.get("salted_fingerprint") or user.get("salted_ip") or ""
        fields = _own(vote) or _derived(vote)
    except (KeyError, TypeError, AttributeError) as error:
        raise PairsError(f"the battle has no vote on two melodies in tokens: {short(str(error))}") from None
    a, b = ({"melody": m, "system": s} for m, s in zip(melodies, systems, strict=True))
    return Comparison(
        prompt=prompt,
        a=a["melody"],
        b=b["melody"],
        choice=choice,
        system_a=a["system"],
        system_b=b["system"],
        listener=listener,
        **fields,
    )


def write(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Write comparisons as JSON Lines of battles, whole or not at all."""
    lines = (json.dumps(to_battle(one), ensure_ascii=False) + "\n" for one in comparisons)
    write_atomically(path, "".join(lines).encode())


def read(path: Path) -> list[Comparison]:
    """The comparisons of a file of battles; PairsError with the line number at the first that has none."""
    return list(_read(path))


def _read(path: Path) -> Iterator[Comparison]:
    for number, line in enumerate(read_text(path, MAX_BYTES).split("\n"), 1):
        if not line.strip():
            continue
        try:
            battle = json.loads(line)
            yield from_battle(battle if isinstance(battle, dict) else {})
        except (json.JSONDecodeError, RecursionError) as error:
            raise PairsError(f"{path}, line {number}: the line is not JSON ({error})") from None
        except PairsError as error:
            raise PairsError(f"{path}, line {number}: {error}") from None


def _metadata(tokens: Sequence[int], system: str) -> dict[str, Any]:
    text = spell(tokens)
    checksum = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    key = {"system_tag": system, "variant_tag": ""}
    return {"system_key": key, "lyrics": text, "checksum": checksum}


def _events(seconds: float | None, end: float | None) -> list[list[Any]]:
    """When one listened, as one interval before the vote."""
    if seconds is None or end is None:
        return []
    return [["PLAY", end - seconds], ["PAUSE", end]]


def _own(vote: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields that `to_battle` wrote; None for a battle from elsewhere."""
    try:
        own = json.loads(vote.get("feedback") or "null")[MARK]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return {name: own[name] for name in OWN if name in own} if isinstance(own, dict) else None


def _derived(vote: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a battle from elsewhere: people voted, and what the events say."""
    heard = {name: vote.get(f"{name}_listen_data") or [] for name in "ab"}
    plays = {name: [time for event, time in events if event == "PLAY"] for name, events in heard.items()}
    started = [name for name in "ab" if plays[name]]
    time = vote.get("preference_time")
    return {
        "simulated": False,
        "shown_left": "a",
        "played_first": min(started, key=lambda name: min(plays[name])) if started else "",
        "seconds_a": _listened(heard["a"]),
        "seconds_b": _listened(heard["b"]),
        "timestamp": "" if time is None else datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat(),
        "extra": {"feedback": vote["feedback"]} if vote.get("feedback") else {},
    }


def _listened(events: Sequence[Sequence[Any]]) -> float:
    """Seconds between PLAY and PAUSE, TICK or STOP."""
    total, since = 0.0, None
    for event, time in events:
        if event != "PLAY" and since is not None:
            total += max(0.0, time - since)
        since = time if event in ("PLAY", "TICK") else None
    return total


def _seconds(timestamp: str) -> float | None:
    return datetime.datetime.fromisoformat(timestamp).timestamp() if timestamp else None
