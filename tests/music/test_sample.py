from mammadai_jax.music.sample import save, tunes


def test_the_tunes_are_heard_over_their_accompaniments():
    samples = tunes()
    assert len(samples) == 10
    assert all(len(sample.melody.events) == 256 and sample.line is not None for sample in samples)


def test_a_sample_is_saved_in_every_form(tmp_path):
    paths = save(tunes()[0], tmp_path / "new" / "a")
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    assert {".mid", ".wav", ".svg"} <= {path.suffix for path in paths}
    assert (tmp_path / "new" / "a.mid").read_bytes()[:4] == b"MThd"
    assert (tmp_path / "new" / "a.wav").read_bytes()[:4] == b"RIFF"
