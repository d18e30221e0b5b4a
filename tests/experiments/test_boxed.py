"""The command that packs a run, and the box that the package ships."""

import json
import sys

import pytest

from experiments import boxed
from mammadai_jax.commands.compose import Compose
from mammadai_jax.stages import STAGES, divided, preset
from mammadai_jax.training import box
from mammadai_jax.training.context import settings_of_run


def test_a_card_has_the_numbers_of_every_stage_in_the_box(taught, tmp_path, monkeypatch, capsys):
    out = tmp_path / "box"
    monkeypatch.setattr(
        sys, "argv", ["boxed", str(taught), "--out", str(out), "--melodies", "8", "--prompts", "2"]
    )
    boxed.main()
    card, numbers = (out / "MODEL_CARD.md").read_text(), json.loads((out / "metrics.json").read_text())
    assert card in capsys.readouterr().out
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0][2:] for row in rows[1:8]] == list(boxed.STAGES)
    for stage, bits in numbers["held_out_bits"].items():
        assert bits == pytest.approx(numbers["held_out_bits_of_run"][stage], abs=0.01)
        assert any(row.startswith(f"| {stage} | ") and f"| {bits:.4f} |" in row for row in rows)
    assert f"{numbers['bytes']['all']:,} bytes" in card and "corpus: embedded, 10 melodies" in card
    assert "preset: none of the package's" in card and "public domain" in card
    assert numbers["bytes"]["all"] > numbers["bytes"]["in the wheel"] > numbers["bytes"]["prior"]
    monkeypatch.setattr(sys, "argv", ["boxed", str(taught), "--prompts", "0"])
    with pytest.raises(ValueError, match="--prompts is 1 or more, not 0"):
        boxed.main()


@pytest.mark.parametrize("name", ["smoke", "quick", "full"])
def test_the_preset_of_a_run_is_named_whatever_its_seed(name):
    run, parts = divided(overlaid(preset(name), seed=7, corpus="mine"))
    assert boxed.preset_of(run, parts) == name
    run, parts = divided(overlaid(preset(name), saved_samples=9))
    assert boxed.preset_of(run, parts).startswith("none of the package's")


def overlaid(settings, **changes):
    return type(settings)(**{**vars(settings), **changes})


def test_the_shipped_box_is_small_and_whole():
    assert list(box.digests(box.SHIPPED)) == list(boxed.STAGES)
    sizes = boxed.sizes(box.SHIPPED)
    assert sizes["in the wheel"] <= boxed.LIMIT
    assert sizes == json.loads((box.SHIPPED / "metrics.json").read_text())["bytes"]
    run, _ = settings_of_run(box.SHIPPED, STAGES)  # which the settings of today still take
    assert f"preset: quick; seed: {run.seed};" in (box.SHIPPED / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("stage", ["prior", "polyphony"])
def test_the_shipped_box_composes_the_same_bytes_for_the_same_seed(tmp_path, stage):
    for name in ("a", "b"):
        Compose(box.SHIPPED, stage=stage, bars=1, out=tmp_path / name).run()
    written = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert written[0] == written[1] and f"{stage}-0-1-bars1.mid" in written[0]


@pytest.mark.nightly
def test_the_bits_on_the_card_are_those_of_the_weights():
    pytest.importorskip("music21")
    numbers = json.loads((box.SHIPPED / "metrics.json").read_text())["held_out_bits"]
    measured = boxed.held_out_bits(box.SHIPPED, ("prior", "theory"))
    assert measured == pytest.approx({name: numbers[name] for name in measured}, abs=1e-4)
