"""Stage "chorales": a network learns by maximum likelihood how four voices go on in Bach's chorales."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mammadai_jax.agents import polyphonic_prior, prior
from mammadai_jax.fields import static
from mammadai_jax.music import jsb
from mammadai_jax.music.corpus import CorpusMissing
from mammadai_jax.music.notes import VOICES, VOICES_HOLD, Alphabet
from mammadai_jax.music.piece import SATB, Piece, decision_order, frames, on_tonic
from mammadai_jax.music.sample import Sample, duets, pieces_of
from mammadai_jax.networks.polyphonic import PolyphonicComposer
from mammadai_jax.stages.prior import NO_DATA, Data, learner_of, prior_tokens
from mammadai_jax.training.context import say
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.settings import SettingsError
from mammadai_jax.training.stage import ComposeRequest, Context, StageSpec

BARS = 8  # of a composed piece by default
TONIC = 0  # on which all pieces end
QUARTERS_PER_BAR = 4

# all pieces end on C, so that none is transposed
LEARNER = dataclasses.replace(
    polyphonic_prior.Config(),
    hold=True,
    steps_per_quarter=1,
    match_steps=128,
    transpose=0,
    sequence_length=64,
    batch_size=16,
    num_updates=700,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Stage "chorales": maximum likelihood on four voices.

    Attributes:
        log_every: updates between log lines.
        learner: see agents.polyphonic_prior.

    """

    log_every: int = static(default=20, low=1)
    learner: polyphonic_prior.Config = dataclasses.field(default_factory=lambda: LEARNER)


PRESETS: Mapping[str, Settings] = {
    "smoke": Settings(
        log_every=10,
        learner=dataclasses.replace(
            LEARNER,
            width=32,
            match_steps=16,
            sequence_length=32,
            batch_size=4,
            num_updates=20,
            lr_warmup_steps=5,
            dropout=0.0,
            ema_decay=0.9,
        ),
    ),
    "quick": Settings(
        learner=dataclasses.replace(
            LEARNER,
            width=128,
            match_steps=64,
            num_updates=200,
            learning_rate=6e-3,
            lr_warmup_steps=20,
            dropout=0.3,
            ema_decay=0.98,
        ),
    ),
}


def check(settings: Settings, place: str) -> None:
    """SettingsError unless there are four voices."""
    if settings.learner.voices != len(SATB):
        where = f"{place}.learner.voices"
        raise SettingsError(f"{where} is {len(SATB)}, as chorales have, not {settings.learner.voices}")


def alphabet_of(settings: Settings) -> Alphabet:
    """In which voices are spelled."""
    return VOICES_HOLD if settings.learner.hold else VOICES


def composer_of(settings: Settings) -> PolyphonicComposer:
    """The network of the prior."""
    return polyphonic_prior.make_composer(settings.learner, alphabet_of(settings).size)


def from_tunes(context: Context) -> bool:
    """Whether the embedded tunes stand in for the chorales, as they do for the corpus."""
    return context.corpus().name == "embedded"


def read(context: Context) -> tuple[list[Piece], list[Piece]]:
    """The chorales of the standard split, for training and held out; without music21 the embedded tunes."""
    tunes = duets()
    if from_tunes(context):
        return tunes[:-2], tunes[-2:]
    try:
        split = jsb.load()
    except CorpusMissing as error:
        say(f"{error}; the stage chorales learns the ten embedded tunes and their accompaniments")
        return tunes[:-2], tunes[-2:]
    return on_c(split.train), on_c(split.valid)


def on_c(pieces: Sequence[Piece]) -> list[Piece]:
    """Chorales to their last note, transposed so that they end on C."""
    return [on_tonic(piece.first(piece.span.stop), TONIC, VOICES) for piece in pieces]


def tokens(settings: Settings, pieces: Sequence[Piece]) -> list[np.ndarray]:
    """Pieces as tokens int32 (T, V) on the grid of the settings."""
    grid, alphabet = settings.learner.steps_per_quarter, alphabet_of(settings)
    return [piece.on_grid(grid).tokens(alphabet) for piece in pieces]


def data(settings: Settings, context: Context) -> Data:
    """The pieces for training as the learner reads them, and the decisions of those held out."""
    train, held_out = (tokens(settings, pieces) for pieces in read(context))
    stream = polyphonic_prior.stream(train, alphabet_of(settings).size)
    return stream, [polyphonic_prior.decided(piece) for piece in held_out]


def make_learner(settings: Settings, context: Context, data: Data) -> Learner:
    """Maximum likelihood, measured in bits a decision on the pieces held out."""
    size, voices = alphabet_of(settings).size, settings.learner.voices
    return learner_of("chorales", settings, context, data, agent=polyphonic_prior, size=size, voices=voices)


def template(settings: Settings, context: Context) -> prior.State:
    """A state before training."""
    return make_learner(settings, context, NO_DATA).init()


def compose(
    settings: Settings, context: Context, learned: Any, key: jax.Array, request: ComposeRequest
) -> list[Sample]:
    """Pieces of four voices on C; 8 bars by default."""
    del context
    return composed(settings, learned, key, request, request.bars or BARS, "Chorales")


def composed(
    settings: Settings, params: Any, key: jax.Array, request: ComposeRequest, bars: int, name: str
) -> list[Sample]:
    """Pieces of so many bars by the network with these parameters, titled "NAME 1"..."""
    grid = settings.learner.steps_per_quarter
    steps = bars * QUARTERS_PER_BAR * grid
    rows = piece_tokens(composer_of(settings), params, key, request.melodies, steps, request.temperature)
    return pieces_of(rows, name, alphabet_of(settings), grid)


def piece_tokens(
    composer: PolyphonicComposer,
    params: Any,
    key: jax.Array,
    pieces: int,
    steps: int,
    temperature: float = 1.0,
) -> np.ndarray:
    """What the network with these parameters composes, int32 (pieces, steps, voices)."""
    rows = prior_tokens(composer, params, key, pieces, steps * composer.voices, temperature)
    return np.stack([frames(row, decision_order(composer.voices)) for row in rows])


def describe(settings: Settings, context: Context, rows: list[dict[str, Any]]) -> str:
    """What was learned, with the last measured bits."""
    del settings
    measured = (row["held_out_bits"] for row in reversed(rows) if "held_out_bits" in row)
    read_from = "the ten tunes over their accompaniments" if from_tunes(context) else "Bach's chorales"
    return (
        f"A network was trained to predict the next note of {read_from}, one voice after another; it "
        f"composes alone, on C. A held-out decision costs it {next(measured, float('nan')):.2f} bits."
    )


STAGE = StageSpec(
    name="chorales",
    title="Chorales",
    describe=describe,
    settings_type=Settings,
    presets=PRESETS,
    check=check,
    data=data,
    make_learner=make_learner,
    template=template,
    weights=lambda state: state.average,
    compose=compose,
    harmoniser=lambda settings, context, learned: (composer_of(settings), learned),
    metrics=("bits", "held_out_bits"),
)
