"""Reads valid music that is varied as people and programs vary it, and counts the notes.

    python -m experiments.reading --count 300

For each reader (MIDI, ABC, MusicXML of chorales, and the ABC files of the installed music21) so many inputs
are made from a seed. Their notes are counted without our reader: in MIDI by mido, in the others as they are
written. Every note must be in the melody or in its `left_out`; the first tempo, the meter and where its bars
begin must be those that the input was made with. Exit code 1 if a note is lost, or a fact is wrong.
"""

from __future__ import annotations

import dataclasses
import io
import random
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import mido
import tyro

from mammadai_jax.music import abc, chorales, folk, midi

QUARTER = 480
METERS = ((4, 4), (3, 4), (2, 4), (6, 8), (2, 2), (5, 4), (7, 8))


class Outcome(NamedTuple):
    """Notes that were written and those that were read or named; `wrong` says what else differs."""

    written: int
    read: int
    named: int
    wrong: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing is lost or wrong."""
        return self.written == self.read + self.named and not self.wrong


@dataclasses.dataclass
class MidiFile:
    """A file in the making: (tick, message) by track, of which the first has the meta events."""

    random: random.Random
    tracks: list[list[tuple[int, mido.Message | mido.MetaMessage]]]
    bar: float  # quarters
    meter: str
    tempo: int  # microseconds a quarter

    def note(self, track: int, start: int, end: int, pitch: int, channel: int = 0) -> None:
        """A note, released in one of the two ways."""
        silent = self.random.random() < 0.5
        off = mido.Message("note_on" if silent else "note_off", note=pitch, velocity=0, channel=channel)
        self.tracks[track].append((start, mido.Message("note_on", note=pitch, channel=channel)))
        self.tracks[track].append((end, off))

    def signature(self, tick: int, beats: int, unit: int) -> None:
        """A time signature."""
        meta = mido.MetaMessage("time_signature", numerator=beats, denominator=unit)
        self.tracks[0].append((tick, meta))


def midi_file(rng: random.Random) -> tuple[bytes, MidiFile, int]:
    """A varied file, what it was made with, and the tick of a bar line."""
    beats, unit = rng.choice(METERS)
    tempo = round(60e6 / rng.randint(40, 200))
    file = MidiFile(rng, [[], []], 4 * beats / unit, f"{beats}/{unit}", tempo)
    upbeat = rng.choice([0, 0, QUARTER, 3 * QUARTER // 2]) if file.bar > 1.5 else 0
    if upbeat:
        file.signature(0, upbeat // (QUARTER // 2), 8)
    elif rng.random() < 0.5:
        file.signature(0, *rng.choice(METERS))
    file.signature(upbeat, beats, unit)
    for wrong in [rng.randint(200_000, 900_000)] * rng.randint(0, 2):
        file.tracks[0].append((0, mido.MetaMessage("set_tempo", tempo=wrong)))
    file.tracks[0].append((0, mido.MetaMessage("set_tempo", tempo=tempo)))
    now = 0
    for _ in range(rng.randint(10, 60)):
        length = QUARTER // 4 * rng.choice([1, 2, 2, 4, 4, 8])
        file.note(1, now, now + length, rng.randint(55, 85))
        now += length
    for vary in rng.sample(MIDI_VARIATIONS, rng.randint(0, 6)):
        vary(file, now)
    return _saved(file), file, upbeat


def _saved(file: MidiFile) -> bytes:
    """The bytes of a file, of format 0 or 1; at one tick notes end before others begin."""
    form = 0 if len(file.tracks) == 2 and file.random.random() < 0.4 else 1
    tracks = [file.tracks[0] + file.tracks[1]] if form == 0 else file.tracks
    result, buffer = mido.MidiFile(type=form, ticks_per_beat=QUARTER, charset="latin-1"), io.BytesIO()
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - now))
            now = tick
        result.tracks.append(track)
    result.save(file=buffer)
    return buffer.getvalue()


def _grace_notes(file: MidiFile, end: int) -> None:
    for _ in range(file.random.randint(1, 5)):
        at, length = file.random.randint(0, end), file.random.choice([0, 1, 20, 40, 80])
        for pitch in file.random.sample(range(50, 95), file.random.randint(1, 3)):
            file.note(1, at, at + length, pitch)


def _chords(file: MidiFile, end: int) -> None:
    for _ in range(file.random.randint(1, 8)):
        at = QUARTER // 4 * file.random.randint(0, end // (QUARTER // 4))
        file.note(1, at, at + QUARTER, file.random.randint(40, 90))


def _triplets(file: MidiFile, end: int) -> None:
    for number in range(file.random.choice([3, 6, 12])):
        file.note(1, end + 80 * number, end + 80 * number + 80, 60 + number)


def _programs_and_channels(file: MidiFile, end: int) -> None:
    for _ in range(4):
        change = mido.Message("program_change", program=file.random.randint(0, 127))
        file.tracks[1].append((file.random.randint(0, end), change))


def _another_track(file: MidiFile, end: int) -> None:
    file.tracks.append([(0, mido.MetaMessage("track_name", name="Bass"))])
    for at in range(0, end, QUARTER):
        file.note(-1, at, at + QUARTER, 40, 1)


def _drums(file: MidiFile, end: int) -> None:
    file.tracks.append([])
    for at in range(0, end, QUARTER // 2):
        file.note(-1, at, at + 10, 36, 9)


def _empty_tracks(file: MidiFile, end: int) -> None:
    file.tracks += [[], [(end, mido.MetaMessage("track_name", name="N\xe9ant"))]]


def _never_released(file: MidiFile, end: int) -> None:
    file.tracks[1].append((end, mido.Message("note_on", note=30)))
    file.tracks[1].append((end + QUARTER, mido.MetaMessage("text", text="end")))


def _at_the_end(file: MidiFile, end: int) -> None:
    file.note(1, end, end, 71)


def _keys_and_texts(file: MidiFile, end: int) -> None:
    file.tracks[0].append((file.random.randint(0, end), mido.MetaMessage("key_signature", key="Ebm")))
    file.tracks[1].append((0, mido.MetaMessage("lyrics", text="Fr\xfch")))
    file.tracks[1].append((0, mido.Message("sysex", data=(1, 2, 3))))


def _late_tempo(file: MidiFile, end: int) -> None:
    file.tracks[0].append((end // 2 + 1, mido.MetaMessage("set_tempo", tempo=400_000)))


def _controllers(file: MidiFile, end: int) -> None:
    for _ in range(20):
        at, value = file.random.randint(0, end), file.random.randint(0, 127)
        file.tracks[1].append((at, mido.Message("control_change", control=64, value=value)))


MIDI_VARIATIONS: tuple[Callable[[MidiFile, int], None], ...] = (
    *(_grace_notes, _chords, _triplets, _programs_and_channels, _another_track, _drums, _empty_tracks),
    *(_never_released, _at_the_end, _keys_and_texts, _late_tempo, _controllers),
)


def _mido_onsets(data: bytes) -> Iterator[tuple[int, int]]:
    """Tick and pitch of every note of a file, as mido reads it."""
    for track in mido.MidiFile(file=io.BytesIO(data), charset="latin-1").tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "note_on" and message.velocity:
                yield tick, message.note


def midi_outcome(rng: random.Random) -> Outcome:
    """What is read of a varied MIDI file, beside mido's count."""
    data, file, upbeat = midi_file(rng)
    melody = midi.parse(data)
    written = list(_mido_onsets(data))
    first = upbeat // (QUARTER // 4) % melody.steps_per_bar
    expected = (file.meter, round(60e6 / file.tempo), first)
    step = melody.notes[0].onset % melody.steps_per_bar
    facts = (melody.meter, round(melody.tempo), -step % melody.steps_per_bar)
    wrong = "" if facts == expected else f"meter, tempo, upbeat {facts}, not {expected}"
    places = {(int(tick * 4 / QUARTER + 0.5), pitch) for tick, pitch in written}
    begin = melody.notes[0].onset - min(step for step, _ in places)
    if strange := [note for note in melody.notes if (note.onset - begin, note.pitch) not in places]:
        wrong += f"notes that are not in the file: {strange}"
    return Outcome(len(written), len(melody.notes), sum(melody.left_out.values()), wrong)


def abc_tune(rng: random.Random) -> tuple[str, int]:
    """A varied tune, and the number of its notes."""
    meter = rng.choice(["4/4", "C|", "3/4", "6/8", "(2+3)/8", "none"])
    key = rng.choice(
        ["C", "Gdor", "", "D exp ^f", "F clef=bass", "Am octave=-1", "none", "HP", "Bb treble-8"]
    )
    head = [f"X:{rng.randint(1, 99)}", "T:Früh", f"M:{meter}", "L:1/8", 'Q:"Slow" 1/4 1/4=60', f"K:{key}"]
    bars, count = [], 0
    for _ in range(rng.randint(2, 12)):
        parts = [rng.choice(ABC_PARTS) for _ in range(rng.randint(1, 6))]
        bars.append(" ".join(text for text, _ in parts))
        count += sum(number for _, number in parts)
        if rng.random() < 0.1:
            bars.append("& C D")
            count += 2
    ending = rng.choice([("", 0), ("|1 A B :|2 c |]", 3), ("|: A2 :|", 1), ("[1 z4 :|[2 A |", 1)])
    lines = "|".join(bars).replace("|&", "&")
    return "\n".join([*head, f"{lines}|{ending[0]}", ""]), count + ending[1]


# Text and the notes in it.
ABC_PARTS: tuple[tuple[str, int], ...] = (
    *(("A2", 1), ("B/c/", 2), ("^F _B =E", 3), ("z2", 0), ("(3ABc", 3), ("(5ABcde", 5), ("A>B", 2)),
    *(("[CEG]2", 3), ("[C2E2]", 2), ("{ab}c", 3), ("{/f}d", 2), ("A-A", 1), ("A2-|A2", 1), ("c'' C,,", 2)),
    *(('"Am7"A', 1), ("!trill!B", 1), ("+fermata+c", 1), ("~d .e vf", 3), ("(AB)", 2), ("A0", 1), ("x y", 0)),
    *(("[K:G]F", 1), ("[L:1/16]ab", 2), ("[M:3/4]g", 1), ("[I:stuff]e", 1), ("\nw: do re\nB", 1)),
    *(("\n% A B c\nd", 1), ("A4 |]\n|: B4", 2), ("Z", 0), ('"^text"c', 1), ("d <e", 2), ("[r:remark]f", 1)),
)


def abc_outcome(rng: random.Random) -> Outcome:
    """What is read of a varied ABC tune, beside the notes that were written."""
    text, written = abc_tune(rng)
    tune = abc.parse(text)
    named = sum(tune.left_out.values())
    wrong = "" if tune.tempo == 120 else f"tempo {tune.tempo}"
    return Outcome(written, len(tune.notes), named, wrong)


def chorale(rng: random.Random) -> tuple[str, int]:
    """A varied score of four parts in MusicXML, and the notes of its soprano."""
    pitch = lambda: f"<pitch><step>{rng.choice('CDEFGAB')}</step><octave>{rng.randint(4, 5)}</octave></pitch>"
    tied = "<pitch><step>C</step><octave>5</octave></pitch>"
    note = lambda inside, length=4: f"<note>{inside}<duration>{length}</duration><voice>1</voice></note>"
    parts: dict[str, Callable[[], tuple[str, int]]] = {
        "note": lambda: (note(pitch()), 1),
        "rest": lambda: (note("<rest/>"), 0),
        "grace": lambda: (f"<note><grace/>{pitch()}<voice>1</voice></note>", 1),
        "chord": lambda: (note(pitch()) + note(f"<chord/>{pitch()}"), 2),
        "tie": lambda: (note(f'{tied}<tie type="start"/>') + note(f'{tied}<tie type="stop"/>'), 1),
        "voice": lambda: (note(pitch()).replace("<voice>1", "<voice>2"), 1),
        "zero": lambda: (note(pitch(), 0), 1),
    }
    attributes = "<attributes><divisions>4</divisions><time><beats>4</beats><beat-type>4</beat-type></time>"
    measures, count = [f"{attributes}</attributes>{note(pitch())}"], 1
    for number in range(rng.randint(1, 8)):
        chosen = [parts[rng.choice([*parts])]() for _ in range(rng.randint(1, 6))]
        ending = f'<barline><ending number="{number}" type="start"/></barline>' if rng.random() < 0.2 else ""
        measures.append(ending + "".join(text for text, _ in chosen))
        count += sum(number for _, number in chosen)
    names = ("Soprano", "Alto", "Tenor", "Bass")
    listed = "".join(f'<score-part id="{n}"><part-name>{n}</part-name></score-part>' for n in names)
    music = "".join(f"<measure>{measure}</measure>" for measure in measures)
    part = f'<part-list>{listed}</part-list><part id="Soprano">{music}</part>'
    return f"<score-partwise>{part}</score-partwise>", count


def chorale_outcome(rng: random.Random) -> Outcome:
    """What is read of a varied chorale, beside the notes that were written."""
    text, written = chorale(rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bwv1.mxl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("score.xml", text)
        tune = chorales.read(path)
    return Outcome(written, len(tune.notes), sum(tune.left_out.values()))


def folk_outcome(rng: random.Random) -> Outcome:
    """A tune of music21's ABC files with more in it, beside the tune as it is."""
    corpus, _ = folk.find()
    file = rng.choice(sorted(corpus.glob("[aemor]*/*.abc")))
    tunes = abc.split(abc.decode(file.read_bytes()))
    text = next(text for text in rng.sample(tunes, len(tunes)) if _is_readable(text))
    key_line = next(line for line in text.split("\n") if line.startswith("K:")) + "\n"
    head, key, music = text.partition(key_line)
    added = [rng.choice(ABC_PARTS[:21]) for _ in range(rng.randint(1, 5))]
    more = " ".join(part for part, _ in added) + " ||\n"
    before, after = (abc.parse(head + key + begin + music) for begin in ("", more))
    written = sum(count for _, count in added) + len(before.notes) + sum(before.left_out.values())
    return Outcome(written, len(after.notes), sum(after.left_out.values()))


def _is_readable(text: str) -> bool:
    """Whether a tune is not refused."""
    try:
        abc.parse(text)
    except abc.InvalidAbc:
        return False
    return True


READERS: Mapping[str, Callable[[random.Random], Outcome]] = {
    "MIDI": midi_outcome,
    "ABC": abc_outcome,
    "chorales": chorale_outcome,
    "folk": folk_outcome,
}


def outcomes(reader: str, count: int, seed: int) -> Iterator[tuple[int, Outcome]]:
    """The inputs 0..count-1 of a reader and what became of them; one that is refused is named as a whole."""
    for number in range(count):
        try:
            yield number, READERS[reader](random.Random(f"{reader} {seed} {number}"))
        except ValueError as error:
            yield number, Outcome(0, 0, 0, f"refused: {error}")


def main(count: int = 300, seed: int = 0) -> None:
    """Read `count` inputs for each reader, and print the table."""
    bad = []
    print(f"{'reader':10}{'inputs':>8}{'notes':>8}{'read':>8}{'named':>8}{'faults':>8}")
    for reader in READERS:
        found = list(outcomes(reader, count, seed))
        faults = [(reader, number, outcome) for number, outcome in found if not outcome.sound]
        sums = [sum(getattr(outcome, name) for _, outcome in found) for name in ("written", "read", "named")]
        print(f"{reader:10}{count:8,}" + "".join(f"{value:8,}" for value in [*sums, len(faults)]))
        bad += faults
    for reader, number, outcome in bad[:20]:
        print(f"FAILED: {reader}, seed {seed}, number {number}: {outcome}")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    tyro.cli(main)
