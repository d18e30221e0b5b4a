"""The list of parts in a MusicXML document: their names, and the instruments that play them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from mammadai_jax.music.instruments import NAMES


def add_part_list(root: ET.Element, names: Sequence[tuple[str, str]], program: int | None = None) -> None:
    """Write the parts, P1 and so on, of these names and abbreviations; several have a bracket.

    With a General MIDI `program` all are played by it, and parts without a name are called after it.
    """
    part_list = ET.SubElement(root, "part-list")
    if len(names) > 1:
        group = ET.SubElement(part_list, "part-group", type="start", number="1")
        ET.SubElement(group, "group-symbol").text = "bracket"
        ET.SubElement(group, "group-barline").text = "yes"
    for number, (name, short) in enumerate(names, start=1):
        part = ET.SubElement(part_list, "score-part", id=f"P{number}")
        ET.SubElement(part, "part-name").text = name or ("" if program is None else NAMES[program])
        if short:
            ET.SubElement(part, "part-abbreviation").text = short
        if program is not None:
            _add_instrument(part, f"P{number}-I1", program)
    if len(names) > 1:
        ET.SubElement(part_list, "part-group", type="stop", number="1")


def _add_instrument(part: ET.Element, identity: str, program: int) -> None:
    """Write a General MIDI instrument of a part; MusicXML counts programs from 1."""
    instrument = ET.SubElement(part, "score-instrument", id=identity)
    ET.SubElement(instrument, "instrument-name").text = NAMES[program]
    played = ET.SubElement(part, "midi-instrument", id=identity)
    ET.SubElement(played, "midi-program").text = str(program + 1)
