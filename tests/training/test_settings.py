import dataclasses
import json
import time
import tomllib
from typing import Literal, get_args

import pytest

from mammadai_jax.music import theory
from mammadai_jax.stages import STAGES, Settings, divided, only, preset
from mammadai_jax.training import sealed
from mammadai_jax.training import settings as run_settings
from mammadai_jax.training.run import FORMAT
from mammadai_jax.training.settings import (
    PresetName,
    SettingsError,
    as_dict,
    is_left_out,
    overlay,
    read,
    share,
)


def check(settings):
    run_settings.check(*divided(settings))


def learning(settings):
    """The stages that make updates."""
    _, parts = divided(settings)
    return [name for name, part in parts.items() if part.spec.make_learner and not is_left_out(part)]


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["prior"], ["prior"]),
        (["theory", "chorales"], ["prior", "theory", "chorales"]),
        (["gail"], ["cloning", "gail"]),
        (["preference"], ["embedding", "prompted", "reward_model", "preference"]),
    ],
)
def test_only_some_stages_learn_with_those_that_they_need(names, left):
    some = only(preset("smoke"), names)
    assert learning(some) == left
    check(some)


def test_a_stage_is_not_left_out_where_another_needs_it():
    with pytest.raises(SettingsError, match=r"the stages that learn are prior, .*, not 'noise'"):
        only(preset("smoke"), ["noise"])
    for spec in STAGES:
        for name in set(spec.depends_on) - set(spec.can_lack):
            lacking = only(preset("smoke"), [spec.name])
            (place,) = [other.updates for other in STAGES if other.name == name]
            lacking = run_settings.replaced(lacking, {f"{name}.{place}": 0})
            with pytest.raises(SettingsError, match=rf"needs '{name}', which {name}.{place} 0 leaves out"):
                check(lacking)


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    sizes: tuple[int, ...] = (8, 8)


@dataclasses.dataclass(frozen=True)
class Outer:
    """A field of every type that settings have."""

    count: int = 1
    flag: bool = False
    name: str = "a"
    form: Literal["round", "square"] = "round"
    bound: float | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


@pytest.mark.parametrize("name", get_args(PresetName))
def test_presets_are_in_range_and_survive_both_kinds_of_file(name, tmp_path):
    settings = preset(name)
    check(settings)
    (tmp_path / "run.json").write_text(json.dumps({"format": FORMAT, "settings": as_dict(settings)}))
    assert read(tmp_path / "run.json", preset("full")) == settings
    (tmp_path / "settings.toml").write_text(toml(as_dict(settings)))
    assert read(tmp_path / "settings.toml", Settings()) == settings


def toml(tree, above=""):
    """A tree as TOML, which has no null: None is left out, as a value that the base has too."""
    plain = {name: value for name, value in tree.items() if not isinstance(value, dict) and value is not None}
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for name, value in tree.items():
        if isinstance(value, dict):
            lines += [f"[{above}{name}]", toml(value, f"{above}{name}.")]
    return "\n".join(lines)


def test_an_edited_record_of_a_run_is_no_configuration(tmp_path):
    path = tmp_path / "run.json"
    sealed.write(path, FORMAT, {"settings": as_dict(preset("smoke"))})
    assert read(path, preset("full")) == preset("smoke")
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(SettingsError, match=r"its values are not those of its sha256: remove that"):
        read(path, preset("full"))
    path.write_text(json.dumps({"format": FORMAT, "settings": {"seed": 1}}))
    assert read(path, preset("full")).seed == 1


@pytest.mark.parametrize(
    "text",
    ["a" * (1 << 21), "#" * (1 << 21), ".".join("a" * 50_000) + " = 1", "[" + ".".join("a" * 100) + "]"],
)
def test_a_configuration_that_would_fill_the_memory_is_refused_at_once(tmp_path, text):
    (tmp_path / "settings.toml").write_text(text)
    begun = time.process_time()
    with pytest.raises(SettingsError, match=r"settings\.toml cannot be read: .*(larger|more) than"):
        read(tmp_path / "settings.toml", preset("smoke"))
    assert time.process_time() - begun < 1


def test_a_setting_of_very_many_values_is_refused():
    with pytest.raises(SettingsError, match=r"kernel_sizes has 100000 values, at most 64 are allowed"):
        overlay(Settings(), {"embedding": {"learner": {"kernel_sizes": [1] * 100_000}}}, "here")


@pytest.mark.parametrize("name", ["prior", "prompted"])
def test_a_million_layers_are_refused(name):
    with pytest.raises(SettingsError, match=rf"{name}.learner.num_layers is between 1 and 64, not 1000000"):
        check(overlay(Settings(), {name: {"learner": {"num_layers": 10**6}}}, "here"))


def test_another_preset_is_refused():
    with pytest.raises(SettingsError, match="smoke, quick or full, not 'slow'"):
        preset("slow")  # pyright: ignore


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({}, Outer()),
        ({"count": 3, "flag": True, "name": "b", "form": "square"}, Outer(3, True, "b", "square")),
        ({"bound": 2}, Outer(bound=2.0)),
        ({"bound": None}, Outer()),
        ({"inner": {"rate": 1, "sizes": [1, 2, 3]}}, Outer(inner=Inner(1.0, (1, 2, 3)))),
        ({"inner": {"sizes": []}}, Outer(inner=Inner(sizes=()))),
    ],
)
def test_plain_values_are_laid_over(tree, expected):
    laid = overlay(Outer(), tree, "here")
    assert laid == expected
    assert type(laid.bound) is type(expected.bound)
    assert overlay(Outer(), as_dict(laid), "here") == laid


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"counts": 1}, "here: counts is not a setting; there are bound, count, flag"),
        ({"inner": {"rat": 1}}, "here: inner: rat is not a setting; there are rate, sizes"),
        ({"count": 1.0}, "here: count asks for int, not 1.0"),
        ({"count": True}, "here: count asks for int, not True"),
        ({"count": None}, "here: count asks for int, not None"),
        ({"flag": 1}, "here: flag asks for bool, not 1"),
        ({"name": 5}, "here: name asks for str, not 5"),
        ({"form": "oval"}, "here: form is one of round, square, not 'oval'"),
        ({"form": []}, "here: form is one of round, square"),
        ({"bound": "x"}, "here: bound asks for float, not 'x'"),
        ({"bound": False}, "here: bound asks for float, not False"),
        ({"bound": float("nan")}, "here: bound asks for a finite number"),
        ({"bound": 10**400}, "here: bound asks for a finite number"),
        ({"inner": 3}, "here: inner is a table of settings, not 3"),
        ({"inner": {"sizes": 3}}, "here: inner: sizes asks for tuple, not 3"),
        ({"inner": {"sizes": "88"}}, "here: inner: sizes asks for tuple"),
        ({"inner": {"sizes": [8, "8"]}}, "here: inner: sizes asks for int, not '8'"),
        ([], "here is a table of settings"),
        (None, "here is a table of settings"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(tree, said):
    with pytest.raises(SettingsError) as caught:
        overlay(Outer(), tree, "here")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", b"seed = "),
        ("a.toml", b"\xff"),
        ("a.toml", b"a = " + b"[" * 100_000),
        ("a.json", b"{"),
        ("a.json", b"[" * 100_000),
        ("a.json", b"[1]"),
        ("a.json", b'{"settings": 3}'),
        ("a.json", b"3"),
        ("a.toml", b"nonsense = 3"),
    ],
)
def test_a_hostile_file_is_one_error_that_names_it(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text)
    with pytest.raises(SettingsError) as caught:
        read(path, Settings())
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_no_file(tmp_path):
    for path in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            read(path, Settings())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("seed = -1", "seed is between 0 and 2147483647, not -1"),
        ("seed = 99999999999", "seed is between"),
        ("[prior]\nlog_every = 0", "prior.log_every is between 1"),
        ("[prior]\nheld_out = 1.5", "prior.held_out is between"),
        ("[prior.learner]\nlearning_rate = -0.1", "prior.learner.learning_rate is between 0"),
        ("[prior.learner]\ndropout = 1", "prior.learner.dropout is between"),
        ("[gail.learner.ppo]\nhidden = [64, 0]", "gail.learner.ppo.hidden is between 1"),
        ("[gail]\nnum_updates = -5", "gail.num_updates is between 0"),
    ],
)
def test_numbers_out_of_range_are_named(changes, said):
    with pytest.raises(SettingsError) as caught:
        check(overlay(Settings(), tomllib.loads(changes), "here"))
    assert said in str(caught.value)


def test_weights_of_rules_are_laid_over_one_by_one():
    laid = overlay(Settings(), {"theory": {"learner": {"rule_weights": {"key": 3, "tonic": -0.5}}}}, "here")
    weights = laid.theory.learner.rule_weights
    assert weights == {**Settings().theory.learner.rule_weights, "key": 3.0, "tonic": -0.5}
    assert set(weights) == {*theory.RULES, *theory.FURTHER}
    assert type(weights["key"]) is float
    check(laid)
    assert overlay(Settings(), as_dict(laid), "here") == laid


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            "rule_weights = {jazz = 1.0}",
            "theory.learner.rule_weights has no rule called 'jazz'; there are key, tonic,",
        ),
        (
            "warmup_rule_weights = {jazz = 1.0}",
            "theory.learner.warmup_rule_weights has no rule called 'jazz'",
        ),
        ("warmup_steps = -1", "theory.learner.warmup_steps is between 0"),
        ("rule_weights = {key = 1e9}", "theory.learner.rule_weights is between"),
        ("rule_weights = {key = nan}", "here: theory: learner: rule_weights: key asks for a finite number"),
        (
            "rule_weights = {key = 'much'}",
            "here: theory: learner: rule_weights: key asks for float, not 'much'",
        ),
        ("rule_weights = 3", "here: theory: learner: rule_weights is a table of names, not 3"),
        ("ess_fraction = 0.0", "theory.learner.ess_fraction is between 0.001 and 1"),
        ("copy_prob = 1.5", "theory.learner.copy_prob is between 0 and 1, not 1.5"),
        ("tau = -0.1", "theory.learner.tau is between 0 and 1"),
        ("reward_scale = -1.0", "theory.learner.reward_scale is between 0 and"),
        ("temperature = 0.0", "theory.learner.temperature is between 0.001"),
        ("num_envs = 0", "theory.learner.num_envs is between 1"),
    ],
)
def test_a_projection_that_cannot_be_is_one_line(changes, said):
    with pytest.raises(SettingsError) as caught:
        check(overlay(Settings(), tomllib.loads(f"[theory.learner]\n{changes}"), "here"))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("length", "said"), [(0, "between 16"), (24, "in whole bars of 16"), (8192, "and 4096")]
)
def test_pieces_are_of_whole_bars(length, said):
    with pytest.raises(SettingsError, match=f"theory.length is .*{said}"):
        check(overlay(Settings(), {"theory": {"length": length}}, "here"))


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        ("embedding", "length = 0", "embedding.length is between 48 and 960, not 0"),
        ("embedding", "length = 1008", "embedding.length is between 48 and 960, not 1008"),
        ("embedding", "length = 64", "embedding.length is a multiple of 48, not 64"),
        ("embedding", "rvq_levels = -1", "embedding.rvq_levels is between 0 and 12, not -1"),
        ("embedding", "rvq_levels = 13", "embedding.rvq_levels is between 0 and 12, not 13"),
        ("embedding", "sentence_encoder = 3", "embedding: sentence_encoder asks for str, not 3"),
        ("embedding", "learner = {text_heads = 5}", "text_width 96 cannot be shared by 5 heads"),
        ("embedding", "learner = {kernel_sizes = [4]}", "learner has 1 kernel_sizes and 3 strides"),
        ("embedding", "learner = {vocab_size = 2}", "embedding.learner.vocab_size is between 3"),
        ("embedding", "learner = {trigram_buckets = 1}", "embedding.learner.trigram_buckets is between 2"),
        ("prompted", "learner = {width = 36}", "prompted.learner.width 36 cannot be shared by 4 heads"),
        ("reward_model", "num_listeners = 1", "reward_model.num_listeners is between 2"),
        ("preference", "adherence_weight = -1.0", "preference.adherence_weight is between 0"),
        (
            "preference",
            "learner = {num_envs = 10, num_minibatches = 3}",
            "preference.learner: 10 melodies cannot be shared",
        ),
        ("preference", "learner = {num_steps = 48}", "learner.num_steps is not used: set embedding.length"),
        (
            "preference",
            "learner = {reward_weights = {adherence = 2.0}}",
            "preference.learner.reward_weights is not used: set preference.adherence_weight",
        ),
        (
            "preference",
            "learner = {method = 'dqn'}",
            "preference: learner: method is one of ppo, reinforce, grpo, not 'dqn'",
        ),
    ],
)
def test_stages_of_prompts_that_cannot_be_are_one_line(stage, changes, said):
    with pytest.raises(SettingsError) as caught:
        check(overlay(Settings(), tomllib.loads(f"[{stage}]\n{changes}"), "here"))
    assert said in str(caught.value)


@pytest.mark.parametrize("length", [48, 96, 960])
def test_excerpts_are_of_whole_bars_of_every_kind(length):
    settings = overlay(Settings(), {"embedding": {"length": length}}, "here")
    check(settings)
    assert settings.embedding.length == length


def test_stages_may_be_left_out():
    settings = overlay(Settings(), {"cloning": {"num_updates": 0}, "saved_samples": 0}, "here")
    check(settings)
    assert settings.cloning.num_updates == settings.saved_samples == 0


def test_batches_are_shared():
    learner = preset("quick").prior.learner
    assert share(learner, 4).batch_size == learner.batch_size // 4 and share(learner, 1) is learner
    assert (
        share(preset("quick").gail, 4).learner.ppo.num_envs == preset("quick").gail.learner.ppo.num_envs // 4
    )
    with pytest.raises(
        SettingsError, match=r"prior.learner.batch_size 32 cannot be shared by 3 shards.*it 33"
    ):
        check(overlay(preset("quick"), {"shards": 3}, "here"))
