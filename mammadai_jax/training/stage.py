"""What a stage of the training is: one record of functions, its StageSpec.

Everything in training/ is a loop over the specs that it is given; the stages themselves are in stages/.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.controls import BARS, Controls, of_prompt
from mammadai_jax.music.corpus import Corpus
from mammadai_jax.music.forms import Form, form_of, together
from mammadai_jax.music.masks import mask_of
from mammadai_jax.music.sample import STEPS_PER_BAR, Sample
from mammadai_jax.networks.composer import Composer
from mammadai_jax.training.loop import Learner
from mammadai_jax.training.report.table import Comparison


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """What a stage may use besides its own settings.

    Attributes:
        seed: of all randomness of the run; it may be traced.
        shards: that share every batch; `settings.share` divides a learner's config by them.
        path: the run directory.
        corpus: () -> the run's corpus, loaded when it is first needed.
        settings_of: the name of a stage -> its settings, None if it has none; a stage asks for those that it
            depends on.
        learned: the name of a stage -> what its `learned` gave, from memory or from its newest checkpoint;
            None if the stage makes no updates.

    """

    seed: int | jax.Array
    shards: int
    path: Path
    corpus: Callable[[], Corpus]
    settings_of: Callable[[str], Any]
    learned: Callable[[str], Any]

    def key(self, purpose: str) -> jax.Array:
        """A key for a purpose, the same in every process; different purposes have independent keys."""
        return key_of(self.seed, purpose)

    def random(self, purpose: str) -> np.random.Generator:
        """Likewise a source of randomness on the host; the seed must not be traced."""
        return np.random.default_rng([int(self.seed), *purpose.encode()])


def key_of(seed: int | jax.Array, purpose: str) -> jax.Array:
    """The key of a run's seed for a purpose, see `Context.key`."""
    return jax.random.fold_in(jax.random.key(seed), int.from_bytes(purpose.encode()) % (2**31 - 1))


@dataclasses.dataclass(frozen=True)
class ComposeRequest:
    """What a stage is asked to compose.

    Attributes:
        melodies: how many.
        bars: of the meter that is asked for, else of 16 steps; None for what the prompt says, or else the
            stage's own length.
        temperature: divides the logits, on top of the stage's own temperature.
        prompt: the music in words, for stages that take prompts; None for examples of the stage's own.
        guidance: strength of classifier-free guidance by the prompt; None for none.
        prompts: one for each melody in turn, in place of `prompt`.
        candidates: melodies drawn for each that is kept, for stages that take prompts; 1 is the bare policy.
        controls: key, tempo, meter, range, form and instrument; what they leave free the prompt may ask for.

    """

    melodies: int
    bars: int | None = None
    temperature: float = 1.0
    prompt: str | None = None
    guidance: float | None = None
    candidates: int = 1
    prompts: tuple[str, ...] = ()
    controls: Controls = dataclasses.field(default_factory=Controls)

    def texts(self, examples: Sequence[str]) -> list[str]:
        """The prompt of each melody: `prompt`, else `prompts` in turn, else a stage's examples."""
        each = [self.prompt] if self.prompt else self.prompts or examples
        return [each[number % len(each)] for number in range(self.melodies)]

    @functools.cached_property
    def asked(self) -> Controls:
        """What controls and prompt ask for."""
        return self.controls.over(of_prompt(self.prompt or ""))

    def steps(self, default: int) -> int:
        """The length in steps: so many bars of the meter that is asked for, else of 16; or the default.

        By default a form in letters has as many bars as the default length, or some more.
        """
        bars, bar = self.bars or self.asked.bars, BARS.get(self.asked.meter or "", STEPS_PER_BAR)
        if bars is None and self.asked.form:
            sections = len(self.asked.form)
            bars = sections * -(-default // (bar * sections))
        return default if bars is None else bars * bar

    def allowed(self, steps: int) -> jax.Array:
        """The tokens of MAGENTA, bool (steps, tokens), that keep what is asked for."""
        return jnp.asarray(mask_of(self.asked, steps))

    def form(self, key: jax.Array, steps: int, reach: int, texts: Sequence[str] = ()) -> Form:
        """What each melody returns to: what is asked for, or as in folk melodies if its meter is known.

        Args:
            key: consumed.
            steps: of each melody.
            reach: how many steps back the composer remembers; ValueError if a form needs more.
            texts: the prompt of each melody, for stages that write in any meter; without them it is 4/4.

        """
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        of_each = [(self.controls.over(of_prompt(text)), text) for text in texts]
        four = dataclasses.replace(self.asked, meter=self.asked.meter or "4/4")
        of_each = of_each or [(four, "")] * self.melodies
        return together([form_of(random, *each, steps, reach) for each in of_each])


class MelodyWriter(NamedTuple):
    """A network over tokens of `MAGENTA`, its parameters, and its condition (C,), None for none."""

    composer: Composer
    params: Any
    condition: jax.Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class StageSpec:
    """A stage. The functions take the stage's own settings first, then mostly a Context.

    Attributes:
        name: of its settings, log rows, checkpoints and samples, and on the command line.
        title: for readers.
        describe: (settings, context, log rows) -> a sentence for the report: what was learned from what.
        settings_type: a frozen dataclass with the algorithm's config as `learner`; its defaults are the
            preset "full". None for a stage that learns nothing.
        presets: settings by the name of a preset, where they are not the defaults.
        check: (settings, place) -> None; SettingsError for settings that do not go together.
        depends_on: stages that must be trained before.
        can_lack: those among them without which it learns too, if they are left out.
        files: (settings) -> digests by name of the files that settings name, kept in run.json; an error if
            one cannot be read. Called before anything else is done.
        data: (settings, context) -> what the learner learns from; made once, on the host.
        example: likewise, but quickly made and of the same types; for the dry run, where what earlier stages
            learned is traced. None where `data` itself can be traced.
        make_learner: (settings, context, data) -> what the loop drives. Traced fields of `settings.learner`
            and the context's seed may be tracers: a sweep vmaps over them.
        updates: where in the settings the number of updates is; the stage is left out if that is 0.
        template: (settings, context) -> a state with the leaves of a trained one, to restore a checkpoint.
        weights: (state) -> the arrays of a final state that `learned` needs; a box holds them alone.
        learned: (settings, context, weights, data) -> what later stages and `compose` need; `data` is None if
            the weights come from a checkpoint or a box.
        save: (context, data, learned) -> None; writes what compose needs and no checkpoint holds.
        compose: (settings, context, learned, key, request) -> samples; None for a stage that composes
            nothing.
        harmoniser: (settings, context, learned) -> a network over decisions of several voices and its
            parameters, which harmonise melodies; None for a stage that does not.
        writer: (settings, context, learned, tokens of a tune (T,), prompt or None) -> a MelodyWriter, which
            goes on with tunes and fills their gaps; None for a stage that does not.
        score: (settings, context, learned, tokens of a tune (T,), prompt) -> figures by name, what the stage
            says of it.
        takes_prompt: whether `compose` follows a prompt.
        takes_key: whether it keeps a key, a range and a form.
        meters: in which it can write.
        max_bars: the most that `compose` can write.
        tables: (settings, context, pieces) -> further tables of the report, of so many pieces in each column.
        metrics: the main ones, which the table of a sweep shows; a stage without any cannot be swept.

    """

    name: str
    title: str
    describe: Callable[[Any, Context, list[dict[str, Any]]], str] = lambda *_: ""
    settings_type: type[Any] | None = None
    presets: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    check: Callable[[Any, str], None] = lambda *_: None
    depends_on: tuple[str, ...] = ()
    can_lack: tuple[str, ...] = ()
    files: Callable[[Any], Mapping[str, str]] = lambda *_: {}
    data: Callable[[Any, Context], Any] = lambda *_: ()
    example: Callable[[Any, Context], Any] | None = None
    make_learner: Callable[[Any, Context, Any], Learner] | None = None
    updates: str = "learner.num_updates"
    template: Callable[[Any, Context], Any] | None = None
    weights: Callable[[Any], Any] = lambda state: state
    learned: Callable[[Any, Context, Any, Any], Any] = lambda settings, context, weights, data: weights
    save: Callable[[Context, Any, Any], None] = lambda *_: None
    compose: Callable[[Any, Context, Any, jax.Array, ComposeRequest], list[Sample]] | None = None
    harmoniser: Callable[[Any, Context, Any], tuple[Any, Any]] | None = None
    writer: Callable[[Any, Context, Any, np.ndarray, str | None], MelodyWriter] | None = None
    score: Callable[[Any, Context, Any, np.ndarray, str], Mapping[str, float]] | None = None
    takes_prompt: bool = False
    takes_key: bool = False
    meters: tuple[str, ...] = ("4/4",)
    max_bars: int = 256
    tables: Callable[[Any, Context, int], list[Comparison]] = lambda *_: []
    metrics: tuple[str, ...] = ()

    def settings(self, preset: str = "full") -> Any:
        """The stage's settings under a preset; None if it has none."""
        default = self.settings_type() if self.settings_type else None
        return self.presets.get(preset, default)


class Part(NamedTuple):
    """A stage of a run: its spec, and its own part of the run's settings, None if it has none."""

    spec: StageSpec
    settings: Any
