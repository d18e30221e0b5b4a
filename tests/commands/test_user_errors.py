"""Mistakes of users: each is one line on standard error and exit status 2, and leaves everything as it was.

The list was written before it was run. `{0}` is a folder with the files below, `{run}` a trained run.
"""

import json
import signal

import pytest

from mammadai_jax import cli
from mammadai_jax.stages import preset
from mammadai_jax.training import loop, teach
from mammadai_jax.training.run import Run
from mammadai_jax.training.settings import as_dict

PAIR = {"prompt": "a calm tune", "chosen": "14 0 16 0", "rejected": "16 0 14 0"}
TIE = PAIR | {"a": "14 0", "b": "16 0", "choice": "tie", "simulated": False, "chosen": None, "rejected": None}
FILES = {
    "binary": b"\xff\x00",
    "bad.toml": b"[prior]\nchunks = 3\n",
    "type.toml": b'seed = "x"\n',
    "flat.toml": b"prior = 3\n",
    "rules.toml": b"[theory.learner.rule_weights]\njazz = 3\n",
    "utf16.toml": "seed = 1\n".encode("utf-16"),
    "deep.toml": b"a" + b".a" * 50_000 + b" = 1\n",
    "nested.toml": b"a = " + b"[" * 100_000,
    "long.toml": b"#" * (1 << 21),
    "list.json": b"[1, 2]",
    "old.json": b'{"format": 1, "settings": {"imitation": {}}}',
    "empty.jsonl": b"",
    "no prompt.jsonl": (json.dumps(PAIR) + "\n" + json.dumps(PAIR | {"prompt": ""}) + "\n").encode(),
    "equal.jsonl": json.dumps(PAIR | {"rejected": PAIR["chosen"]}).encode() + b"\n",
    "ties.jsonl": json.dumps(TIE).encode() + b"\n",
    "utf16.jsonl": json.dumps(PAIR).encode("utf-16"),
    "text.jsonl": b"chosen,rejected\n",
    "broken/a.mid": b"MThd no more",
    "spoilt/run.json": b"{",
    "old/run.json": b'{"format": 1}',
    "taken/noise-0-1.mid": b"mine",
    "taken/tune-harmonised-0-1.mid": b"mine",
    "tune.abc": b"X:1\nM:4/4\nL:1/4\nK:C\nCDEC|\n",
    "rests.abc": b"X:1\nM:4/4\nL:1/4\nK:C\nzzzz|\n",
    "five.abc": b"X:1\nM:5/4\nL:1/4\nK:C\nCDECD|\n",
    "waltz.abc": b"X:1\nM:3/4\nL:1/4\nK:C\nCDE|\n",
    "wide.abc": b"X:1\nM:4/4\nL:1/4\nK:C\nC,,,DEc'|\n",
    "keyless.abc": b"X:1\nCDEC|\n",
    "taken/00009.mid": b"mine",
    "empty/.hidden": b"",
}
# command line, what is said of it
ERRORS = [
    # commands and flags
    ("", "required: COMMAND"),
    ("tech", "invalid choice: 'tech'"),
    ("Teach", "invalid choice: 'Teach'"),
    ("--nope", "required: COMMAND"),
    ("teach --nope 1", "Unrecognized options: --nope, 1: see `mammadai teach --help-all`"),
    ("teach --prior.learner.widht 3", "perhaps --prior.learner.width"),
    ("teach quick", "Unrecognized options: quick"),
    ("teach --preset", "--preset"),
    ("teach --out", "--out"),
    ("teach --resume=yes", "yes"),
    ("teach --prior.log-every x", "--prior.log-every"),
    ("teach --cloning.representation x", "--cloning.representation"),
    ("teach --theory.learner.rule-weights.jazz 1", "--theory.learner.rule-weights.jazz"),
    ("teach --gail.learner.ppo.hidden a b", "--gail.learner.ppo.hidden"),
    ("teach --devices two", "--devices"),
    ("compose --stage jazz", "invalid choice 'jazz'"),
    ("compose a b", "Unrecognized options: b"),
    ("compose {run} --melodies 1.5", "--melodies"),
    ("compose {run} --seed x", "--seed"),
    ("compose {run} --temperature warm", "--temperature"),
    ("compose {run} --prompt", "--prompt"),
    ("rate --nope", "Unrecognized options: --nope"),
    ("rate {0}/nowhere", "there is no folder {0}/nowhere"),
    ("rate {0}/empty", "{0}/empty is neither a run nor a study"),
    ("rate {0}/empty {0}/broken", "no MIDI file in {0}/empty"),
    ("rate {0}/broken {0}/broken", "broken/a.mid"),
    ("rate {0}/run", "has no trained stage that composes"),
    ("rate {0}/empty --results", "there is no study in {0}/empty"),
    ("rate {0}/empty --pairs 0", "pairs are 1 to 10000, not 0"),
    ("rate {0}/empty --minimum-seconds nan", "minimum_seconds is between 0 and 60, not nan"),
    ("evaluate", "a folder of MIDI files"),
    ("evaluate embedded embedded embedded", "Unrecognized options: embedded"),
    ("corpus embedded folk", "Unrecognized options: folk"),
    ("doctor now", "Unrecognized options: now"),
    ("sweep", "the stage that is swept"),
    ("sweep noise", "invalid choice 'noise'"),
    # presets and settings
    ("teach --preset slow", "smoke, quick or full, not 'slow'"),
    ("teach --config {0}/no.toml", "{0}/no.toml cannot be read"),
    ("teach --config {0}", "{0} cannot be read"),
    ("teach --config {0}/binary", "save it as UTF-8"),
    ("teach --config {0}/utf16.toml", "save it as UTF-8"),
    ("teach --config {0}/bad.toml", "{0}/bad.toml: prior: chunks is not a setting"),
    ("teach --config {0}/type.toml", "seed asks for int"),
    ("teach --config {0}/flat.toml", "prior is a table of settings, not 3"),
    ("teach --config {0}/rules.toml", "theory.learner.rule_weights has no rule called 'jazz'"),
    ("teach --config {0}/deep.toml", "more than 64 dots in a line"),
    ("teach --config {0}/nested.toml", "cannot be read"),
    ("teach --config {0}/long.toml", "larger than 1 MiB"),
    ("teach --config {0}/list.json", "is a table of settings"),
    ("teach --config {0}/old.json", "record of a run of another version, format 1, and this one reads"),
    ("teach --prior.learner.learning-rate nan", "prior.learner.learning_rate is between"),
    ("teach --prior.log-every 0", "prior.log_every is between 1"),
    ("teach --theory.length 24", "theory.length is in whole bars of 16, not 24"),
    ("teach --embedding.length 100", "embedding.length is a multiple of 48, not 100"),
    ("teach --embedding.rvq-levels 13", "embedding.rvq_levels is between 0 and 12, not 13"),
    ("teach --embedding.learner.text-heads 5", "cannot be shared by 5 heads"),
    ("teach --theory.learner.rule-weights.key nan", "theory.learner.rule_weights is between"),
    ("teach --seed -1", "seed is between 0"),
    ("teach --seed 9999999999", "seed is between 0"),
    ("teach --shards 0", "shards"),
    ("teach --shards 3", "cannot be shared by 3 shards"),
    ("teach --devices 0", "devices"),
    ("teach --save-seconds nan", "--save-seconds is 0 or more, not nan"),
    # data
    ("teach --corpus {0}/nowhere", "no corpus '{0}/nowhere'"),
    ("teach --corpus {0}/bad.toml", "no corpus '{0}/bad.toml'"),
    ("teach --corpus {0}/empty", "0 MIDI files in {0}/empty"),
    ("teach --preset smoke --reward-model.ratings {0}/no.jsonl", "no file of comparisons '{0}/no.jsonl'"),
    ("teach --preset smoke --reward-model.ratings {0}", "no file of comparisons '{0}'"),
    ("teach --preset smoke --reward-model.ratings {0}/empty.jsonl", "{0}/empty.jsonl: no comparison prefers"),
    ("teach --preset smoke --reward-model.ratings {0}/ties.jsonl", "{0}/ties.jsonl: no comparison prefers"),
    ("teach --preset smoke --reward-model.ratings {0}/no_prompt.jsonl", "line 2: there are no words in the"),
    (
        "teach --preset smoke --reward-model.ratings {0}/equal.jsonl",
        "line 1: chosen and rejected are the same",
    ),
    ("teach --preset smoke --reward-model.ratings {0}/utf16.jsonl", "line 1: the line is not text in UTF-8"),
    ("teach --preset smoke --reward-model.ratings {0}/text.jsonl", "line 1: the line is not JSON"),
    ("teach --embedding.sentence-encoder {0}/no", "no sentence encoder in {0}/no: model.safetensors"),
    # run directories
    ("teach --preset smoke --out {0}/binary", "{0}/binary is a file"),
    ("teach --preset smoke --out {0}", "{0} is not empty and holds no run: choose another --out"),
    ("teach --preset smoke --out {run}", "add --resume to go on with it, or choose another --out"),
    ("teach --preset smoke --out {run} --resume", "the run was begun with settings."),
    ("teach --out {run} --resume --seed 3", "the run was begun with settings.seed = 0, now it is 3"),
    ("teach --out {0}/new --resume", "{0}/new holds no run to go on with: leave --resume out"),
    ("teach --preset smoke --out {0}/new --resume", "{0}/new holds no run to go on with: leave --resume out"),
    ("teach --out=~no-such-user/x --resume", "there is no home directory for '~no-such-user/x'"),
    ("teach --config=~no-such-user/x", "there is no home directory for '~no-such-user/x'"),
    ("teach --out {0}/spoilt --resume", "{0}/spoilt/run.json cannot be read"),
    ("teach --preset smoke --out /proc/run", "--out /proc/run cannot be made or read"),
    # composing
    ("compose {0}/empty", "{0}/empty holds no run"),
    ("compose {0}/nowhere", "{0}/nowhere holds no run"),
    ("compose {0}/binary", "{0}/binary"),
    ("compose {0}/spoilt", "{0}/spoilt/run.json cannot be read"),
    ("compose {0}/old", "has format 1, not"),
    (
        "compose {0}/run",
        "has no trained stage that composes: go on with `mammadai teach --out {0}/run --resume`",
    ),
    ("compose {0}/run --prompt tune", "has no trained stage that follows a prompt"),
    ("compose {0}/run --stage theory", "no stage 'theory' yet: go on with `mammadai teach --out {0}/run"),
    ("compose {run} --prompt tune --stage gail", "--prompt is for --stage prompted or preference, not gail"),
    ("compose {run} --sentences {0} --stage gail", "--sentences is for --stage prompted or preference"),
    ("compose {run} --sentences {0}", "was trained without embedding.sentence_encoder: leave"),
    ("compose {run} --guidance 2", "--guidance is that of a --prompt: give one"),
    ("compose {run} --prompt tune --guidance -1", "--guidance is between 0 and 100, not -1"),
    ("compose {run} --prompt tune --guidance nan", "--guidance is between 0 and 100, not nan"),
    ("compose {run} --prompt ...", "there are no words in --prompt '...'"),
    ("compose {run} --prompt=", "there are no words in --prompt ''"),
    ("compose {run} --bars 0", "--bars is between 1 and 256 for --stage preference, not 0"),
    ("compose {run} --stage gail --bars 17", "--bars is between 1 and 16 for --stage gail, not 17"),
    ("compose {run} --candidates 0", "--candidates is between 1 and 1000, not 0"),
    ("compose {run} --candidates 1001", "--candidates is between 1 and 1000, not 1001"),
    ("compose {run} --candidates 2 --bars 1", "--candidates needs more --bars"),
    ("compose {run} --candidates 2 --stage gail", "--candidates is for --stage prompted or preference"),
    ("compose {run} --melodies 0", "--melodies is between 1 and 1000, not 0"),
    ("compose {run} --melodies 1001", "--melodies is between 1 and 1000, not 1001"),
    ("compose {run} --temperature 0", "--temperature is above 0"),
    ("compose {run} --temperature nan", "--temperature is above 0"),
    ("compose {run} --temperature inf", "--temperature is above 0"),
    ("compose {run} --seed -1", "--seed is between 0 and 2147483647, not -1"),
    ("compose {run} --key H", "no key 'H': write one such as G, 'F# minor', Bbm or 'D dorian'"),
    ("compose {run} --key=", "no key ''"),
    ("compose {run} --key G --stage gail", "stage gail cannot keep a key: prior, theory, prompted, pref"),
    ("compose {run} --tempo 0", "--tempo is between 20 and 400, not 0"),
    ("compose {run} --tempo nan", "--tempo is between 20 and 400, not nan"),
    ("compose {run} --tempo slow", "--tempo"),
    ("compose {run} --meter 7/8", "no meter '7/8': there are 4/4, 2/2, 2/4, 3/4, 6/8"),
    ("compose {run} --meter 3/4 --stage prior", "cannot keep a meter of 3/4: prompted, preference can"),
    ("compose {run} --range A5-C4", "the range 'A5-C4' is upside down: write the lowest note first"),
    ("compose {run} --range C4", "no range 'C4': write the lowest and the highest note, such as C4-A5"),
    ("compose {run} --range C4-D4", "has 2 semitones: give it 5 or more"),
    ("compose {run} --range C9-C11", "leaves MIDI's pitches"),
    ("compose {run} --range C4-C6 --stage chorales", "stage chorales cannot keep a range"),
    ("compose {run} --instrument fluet", "no instrument 'fluet' in General MIDI: perhaps Flute"),
    ("compose {run} --instrument=", "no instrument ''"),
    ("compose {run} --density low --stage prior", "stage prior takes no prompt, no guidance and no density"),
    ("compose {run} --density thick", "invalid choice 'thick'"),
    ("compose {run} --prompt 300-bars", "bars: stage preference composes 1 to 256, not 300"),
    ("compose {run} --stage noise --out {0}/binary", "{0}/binary"),
    ("compose {run} --stage noise --out {0}/taken", "{0}/taken/noise-0-1.mid is there and holds something"),
    (
        "compose {run} --stage noise --out=~no-such-user/here",
        "there is no home directory for '~no-such-user/here'",
    ),
    (
        "compose {0}/run --harmonise --stage noise",
        "{0}/run has no trained stage that harmonises (chorales, poly",
    ),
    # harmonising
    ("harmonise", "PATH"),
    ("harmonise {0}/tune.abc {run}", "Unrecognized options: {run}"),
    ("harmonise {0}/tune.abc --stage gail", "invalid choice 'gail'"),
    ("harmonise {0}/tune.abc --seed x", "--seed"),
    ("harmonise {0}/no.mid --run {run}", "{0}/no.mid"),
    ("harmonise {0} --run {run}", "{0} is no file of music that is read: .mid, "),
    ("harmonise {0}/bad.toml --run {run}", "{0}/bad.toml is no file of music that is read"),
    ("harmonise {0}/broken/a.mid --run {run}", "{0}/broken/a.mid: "),
    ("harmonise {0}/keyless.abc --run {run}", "{0}/keyless.abc: tune 1: no K: field"),
    ("harmonise {0}/rests.abc --run {run}", "{0}/rests.abc: tune 1: no notes"),
    ("harmonise {0}/tune.abc --run {run} --tune 2", "{0}/tune.abc has 1 tunes in ABC, no tune 2"),
    ("harmonise {0}/tune.abc --run {run} --number 0", "--number is between 1 and 100, not 0"),
    ("harmonise {0}/tune.abc --run {run} --temperature 0", "--temperature is above 0"),
    ("harmonise {0}/tune.abc --run {run} --seed -1", "--seed is between 0 and 2147483647, not -1"),
    ("harmonise {0}/tune.abc --run {0}/empty", "{0}/empty holds no run"),
    (
        "harmonise {0}/tune.abc --run {0}/run",
        "{0}/run has no trained stage that harmonises (chorales, polyphony)",
    ),
    ("harmonise {0}/tune.abc --run {0}/run --stage chorales", "no stage 'chorales' yet: go on with"),
    ("harmonise {0}/tune.abc --run {run} --out {0}/taken", "tune-harmonised-0-1.mid is there and holds"),
    ("harmonise {0}/tune.abc --run {run} --out {0}/binary", "{0}/binary"),
    # a tune of one's own
    ("continue", "PATH"),
    ("continue {0}/no.mid --run {run}", "{0}/no.mid"),
    ("continue {0}/bad.toml --run {run}", "{0}/bad.toml is no file of music that is read"),
    ("continue {0}/broken/a.mid --run {run}", "{0}/broken/a.mid: "),
    ("continue {0}/rests.abc --run {run}", "{0}/rests.abc: tune 1: no notes"),
    ("continue {0}/tune.abc --run {0}/empty", "{0}/empty holds no run"),
    ("continue {0}/tune.abc --run {0}/run", "{0}/run has no trained stage that writes in 4/4: go on with"),
    ("continue {0}/tune.abc --run {0}/run --prompt x", "no trained stage that writes in 4/4 for a prompt"),
    ("continue {0}/tune.abc --run {0}/run --stage prior", "no stage 'prior' yet: go on with"),
    ("continue {0}/tune.abc --run {run} --bars 0", "bars: 1 to 256 can be added, not 0"),
    ("continue {0}/tune.abc --run {run} --bars 257", "bars: 1 to 256 can be added, not 257"),
    ("continue {0}/tune.abc --run {run} --bars 256", "4112 steps are more than 4096: give a shorter tune"),
    ("continue {0}/tune.abc --run {run} --tune 2", "{0}/tune.abc has 1 tunes in ABC, no tune 2"),
    ("continue {0}/tune.abc --run {run} --stage gail", "invalid choice 'gail'"),
    ("continue {0}/tune.abc --run {run} --stage prior --prompt sad", "stage prior takes no prompt"),
    ("continue {0}/tune.abc --run {run} --prompt ...", "there are no words in --prompt '...'"),
    ("continue {0}/tune.abc --run {run} --number 0", "--number is between 1 and 100, not 0"),
    ("continue {0}/tune.abc --run {run} --number 2 --json {0}/new", "--json holds one result: not"),
    ("continue {0}/tune.abc --run {run} --json {0}", "{0}"),
    ("continue {0}/tune.abc --run {run} --temperature 0", "--temperature is above 0"),
    ("continue {0}/five.abc --run {run}", "has no trained stage that writes in 5/4: go on with"),
    ("continue {0}/five.abc --run {run} --stage prior", "stage prior does not write in 5/4"),
    ("continue {0}/waltz.abc --run {run} --stage prior", "not write in 3/4: prompted, preference can"),
    ("continue {0}/wide.abc --run {run}", "range too wide for the alphabet 'magenta': a tune has 36 semi"),
    ("infill {0}/tune.abc --run {run}", "--bars"),
    ("infill {0}/tune.abc --run {run} --bars five", "--bars names the first and the last bar, such as 5-8"),
    ("infill {0}/tune.abc --run {run} --bars 5-8", "the tune has bars 1 to 1, no bars 5 to 8"),
    ("infill {0}/tune.abc --run {run} --bars 1-0", "the tune has bars 1 to 1, no bars 1 to 0"),
    ("vary {0}/tune.abc --run {run} --strength 0", "strength is above 0 and at most 1, not 0"),
    ("vary {0}/tune.abc --run {run} --strength nan", "strength is above 0 and at most 1, not nan"),
    ("vary {0}/tune.abc --run {run} --out {0}/binary", "{0}/binary"),
    ("score {0}/no.mid --run {run}", "{0}/no.mid"),
    ("score {0}/tune.abc --run {0}/empty", "{0}/empty holds no run"),
    ("score {0}/tune.abc --run {0}/run", "{0}/run has no trained stage that scores a tune"),
    ("score {0}/tune.abc --run {run} --json {0}/no/where.json", "{0}/no/"),
    ("score {0}/tune.abc --run {run} --prompt ...", "there are no words in --prompt '...'"),
    # statistics and corpora
    ("evaluate {0}/nowhere", "neither 'embedded' nor 'folk' nor 'folk-all' nor a folder"),
    ("evaluate {0}/bad.toml", "nor a folder"),
    ("evaluate {0}/empty", "0 MIDI files in {0}/empty"),
    ("evaluate {0}/broken", "1 MIDI files in {0}/broken, none with a melody; a.mid:"),
    ("evaluate embedded {0}/empty", "0 MIDI files"),
    ("evaluate embedded --json {0}/no/where.json", "{0}/no/"),
    ("evaluate embedded --json {0}/empty", "{0}/empty"),
    ("evaluate embedded --json /proc/numbers.json", "/proc/numbers.json"),
    ("corpus {0}/nowhere", "no corpus"),
    ("corpus embedded --midi {0}/binary", "{0}/binary"),
    ("corpus embedded --midi /proc/midi", "/proc/midi"),
    ("corpus embedded --midi {0}/taken", "{0}/taken/00009.mid is there and holds something else"),
    # sweeps
    ("sweep theory --from {0}/empty", "{0}/empty holds no run"),
    ("sweep theory --from {run} --set nonsense", "--set names a setting and numbers"),
    ("sweep theory --from {run} --set theory.learner.temperature=", "--set names a setting and numbers"),
    ("sweep theory --from {run} --set theory.learner.jazz=1", "theory.learner.jazz"),
    ("sweep theory --from {run} --set theory.learner.num_envs=8", "theory.learner.num_envs"),
    ("sweep theory --from {run} --set theory.learner.temperature=-1", "temperature"),
    ("sweep theory --from {run} --seeds 0", "--seeds is at least 1, not 0"),
    ("sweep theory --from {run} --updates 0", "--updates is at least 1, not 0"),
    ("sweep theory --from {run} --out {0}", "{0} is not empty and holds no run"),
    ("sweep theory --from {run} --out {0}/new --resume", "{0}/new holds no run to go on with"),
]


@pytest.fixture(autouse=True)
def no_lasting_changes(monkeypatch):
    """A command in this process changes the cache and the signals of its own process only."""
    monkeypatch.setattr(cli, "keep_programs", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for module in (teach, loop):
        monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("it was not refused"))


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    path = tmp_path_factory.mktemp("room")
    for name, data in FILES.items():
        file = path / name.replace(" ", "_")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    Run(path / "run", {"settings": as_dict(preset("smoke")), "data": {}}).close()  # nothing is trained in it
    return path


def names(*folders):
    """All that is in folders, with its size, but for locks."""
    files = (path for folder in folders for path in folder.rglob("*") if path.name != ".lock")
    return sorted((path, path.stat().st_size) for path in files)


@pytest.mark.parametrize(("argv", "said"), ERRORS, ids=[argv or "nothing" for argv, _ in ERRORS])
def test_a_mistake_is_one_line_that_says_what_and_where(capsys, monkeypatch, taught, room, argv, said):
    monkeypatch.chdir(room / "empty")
    before = names(room, taught)
    assert cli.main([part.format(room, run=taught) for part in argv.split()]) == 2
    told = capsys.readouterr()
    *notes, line = told.err.strip().splitlines()
    assert line.startswith("mammadai: ") and said.format(room, run=taught) in line
    assert not [note for note in notes if "Traceback" in note or note.startswith("mammadai: ")], notes
    assert names(room, taught) == before


def test_the_list_is_long_and_has_nothing_twice():
    assert len({argv for argv, _ in ERRORS}) == len(ERRORS) >= 80


def test_a_launcher_that_gives_no_number(capsys, monkeypatch):
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.setenv(name, "two")
    assert cli.main(["teach", "--preset", "smoke"]) == 2
    assert "JAX_NUM_PROCESSES is a whole number, not 'two'" in capsys.readouterr().err
