"""Settings of experiments/preference.py: its presets, variants, systems and comparisons.

preference_selected.md says on what each constant was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mammadai_jax.stages import Settings
from mammadai_jax.training.settings import overlay

RATERS = 3  # of the quality of a melody, as MusicRL's
SCALED = 512  # prompts for whose melodies a reward model's scores have a variance of 1
RATED = 5000  # at most: real excerpts that raters hear, and damaged ones, and composed ones
TEST_SHARE = 0.2  # of the prompts that listeners compared melodies for: a reward model is tested on them
JURY_SHARE = 0.1  # of the melodic families: only the second jury's prior learns from them
JURY_SEED = 1000  # added to the seed: these families are drawn independently of the test's
# Times the listeners' own noise, for listeners who are surer or less sure than those that taught.
NOISE = (0.5, 1.0, 2.0)
BEST_OF = 16  # melodies that the base writes for a prompt, of which the reward model keeps one
BEST = f"best of {BEST_OF}"
# win / (win + loss), %, of Cideron et al. 2024
PAPER = {
    ("R", "base"): 83,
    ("U", "base"): 74,
    ("U", "R"): 54,
    ("RU", "base"): 87,
    ("RU", "U"): 62,
    ("RU", "R"): 66,
}
# "tunes" are the melodies that the prompts were made for
ROWS = (
    *PAPER,
    ("tunes", "base"),
    ("RU", "tunes"),
    (BEST, "base"),
    ("U", BEST),
    ("RU", BEST),
)
FULL = overlay(
    Settings(),
    {
        "embedding": {"num_excerpts": 24_000, "learner": {"num_updates": 1600}},
        "prompted": {"learner": {"width": 96, "num_layers": 2, "num_updates": 1200}},
        "reward_model": {
            "num_listeners": 64,
            "num_pairs": 70_000,
            "learner": {"learning_rate": 2e-3, "num_epochs": 2.0},
        },
    },
    "full",
)
# A quarter of the time: fewer updates and pairs, everything else as in the full one.
SMALL = overlay(
    FULL,
    {
        "embedding": {"num_excerpts": 8000, "learner": {"num_updates": 400}},
        "prompted": {"learner": {"num_updates": 400}},
        "reward_model": {"num_listeners": 32, "num_pairs": 14_000},
        "preference": {"learner": {"num_updates": 60}},
    },
    "small",
)
TINY = overlay(
    Settings(),
    {
        "corpus": "embedded",
        "embedding": {
            "captions_per_excerpt": 2,
            "log_every": 20,
            "learner": {
                "text_width": 48,
                "music_width": 16,
                "batch_size": 16,
                "num_updates": 10,
                "lr_warmup_steps": 5,
            },
        },
        "prompted": {
            "log_every": 20,
            "learner": {
                "width": 32,
                "num_layers": 1,
                "batch_size": 8,
                "num_updates": 10,
                "lr_warmup_steps": 5,
            },
        },
        "reward_model": {
            "num_listeners": 8,
            "num_pairs": 96,
            "log_every": 20,
            "learner": {"batch_size": 16},
        },
        "preference": {
            "log_every": 2,
            "learner": {"num_updates": 4, "critic_warmup_steps": 1, "num_minibatches": 1, "num_envs": 16},
        },
    },
    "tiny",
)
# No network reads traits. PPO's value is then a composer of its own, for the critic has the melody so far as
# its traits alone.
NO_TRAITS = {
    "embedding": {"tells_claims": False, "learner": {"use_traits": False}},
    "reward_model": {"learner": {"trait_units": 0}},
    "preference": {"learner": {"critic_width": 0, "separate_value": True, "critic_warmup_steps": 0}},
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {"traits": {}, "no-traits": NO_TRAITS}


class Preset(NamedTuple):
    """Settings of the stages, and updates of the second jury's prior."""

    settings: Any
    jury_updates: int


PRESETS = {"full": Preset(FULL, 500), "small": Preset(SMALL, 250), "tiny": Preset(TINY, 4)}


def settings_for(preset: str, variant: str, seed: int) -> Any:
    """The settings of a seed of a variant."""
    place = f"{variant}, seed {seed}"
    return overlay(PRESETS[preset].settings, {"seed": seed, **VARIANTS[variant]}, place)


class System(NamedTuple):
    """What distinguishes a tuned composer.

    Attributes:
        weights: of the rewards, see `reward_of`; what is not named weighs nothing and is merely written down.
        share: of the learner's updates.
        learner: its other settings, see agents.preference.Config.

    """

    weights: Mapping[str, float]
    share: float
    learner: Mapping[str, Any]


CHOSEN = {"preference": 1.0, "variety": 2.0}
# U is stopped before it is over-optimised. RU goes on for longer and further from R, whose quality it has.
SYSTEMS = {
    "R": System({"adherence": 0.5, "quality": 1.0, "variety": 2.0}, 1.0, {"learning_rate": 2e-3}),
    "U": System(CHOSEN, 0.5, {}),
    "RU": System({"preference": 1.0, "variety": 1.2}, 2.0, {"kl_coef": 0.003}),
    "U-adam": System(CHOSEN, 0.5, {"optimiser": "adam", "learning_rate": 7e-4}),
    "U-reinforce": System(CHOSEN, 0.5, {"method": "reinforce"}),
    # eight melodies of each prompt stand for the value
    "U-grpo": System(CHOSEN, 0.5, {"method": "grpo", "critic_width": 0, "critic_warmup_steps": 0}),
    "U-unleashed": System(
        {"preference": 1.0}, 1.75, {"kl_coef": 0.0, "num_updates": 0, "learning_rate": 1e-4}
    ),
}
