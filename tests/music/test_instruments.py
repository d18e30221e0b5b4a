import pytest

from mammadai_jax.music.instruments import FAMILIES, NAMES, is_sustained, program_of


def test_there_are_128_names_in_16_families_of_eight():
    assert len(NAMES) == len(set(NAMES)) == 128 and len(FAMILIES) == 16
    assert all(len(names.split(", ")) == 8 for names in FAMILIES.values())
    assert [program_of(name) for name in NAMES] == list(range(128))


@pytest.mark.parametrize(
    ("name", "program"),
    [
        *(("flute", 73), ("FLUTE", 73), ("pan-flute", 75), ("piano", 0), ("electric piano", 4)),
        *(("violin", 40), ("fiddle", 110), ("sax", 65), ("tenor sax", 66), ("organ", 19), ("harp", 46)),
        *(("guitar", 24), ("acoustic guitar steel", 25), ("horn", 60), ("strings", 48), ("clarinet", 71)),
    ],
)
def test_names_as_people_write_them(name, program):
    assert program_of(name) == program


@pytest.mark.parametrize(
    ("name", "said"),
    [("fluet", "perhaps Flute"), ("vilin", "Violin"), ("clarinette", "Clarinet"), ("qqq", "such as Flute")],
)
def test_another_name_is_refused_with_a_proposal(name, said):
    with pytest.raises(ValueError, match=f"no instrument '{name}'.*{said}"):
        program_of(name)


def test_what_sounds_on():
    sustained = {NAMES[number] for number in range(128) if is_sustained(number)}
    assert {"Flute", "Violin", "Church Organ", "Trumpet", "Fiddle"} <= sustained
    assert not sustained & {
        "Acoustic Grand Piano",
        "Pizzicato Strings",
        "Orchestral Harp",
        "Banjo",
        "Marimba",
    }
