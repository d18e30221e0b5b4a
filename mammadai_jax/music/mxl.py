"""Files of MusicXML, plain (.musicxml, .xml) or compressed (.mxl), to XML elements, within limits of size."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from mammadai_jax.music import files

SUFFIXES = (".musicxml", ".xml", ".mxl")
MAX_BYTES = 16 << 20
MAX_DEPTH = 64  # of elements within elements


class InvalidMusicXML(ValueError):
    """A file that is not MusicXML, or has no usable music; the message says which and why."""


def load(path: str | os.PathLike) -> Element:
    """The score in a MusicXML file; OSError if it cannot be read or is too large, else `InvalidMusicXML`."""
    return parse(files.read(path, MAX_BYTES))


def parse(data: bytes) -> Element:
    """The score in the bytes of a plain or compressed file; `InvalidMusicXML` if there is none."""
    text = files.decoded(_unpacked(data) if data[:2] == b"PK" else data)
    if "<!ENTITY" in text:  # they may expand without end, and MusicXML needs none
        raise InvalidMusicXML("it declares XML entities")
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        parser.feed(text)
        root = parser.close()
    except ElementTree.ParseError as error:
        raise InvalidMusicXML(f"no MusicXML: {error}") from None
    if root.tag == "score-timewise":
        raise InvalidMusicXML("a score-timewise: save it as score-partwise")
    if root.tag != "score-partwise":
        raise InvalidMusicXML(f"no MusicXML: its first element is <{files.visible(root.tag)[:40]}>")
    return root


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree of a document whose elements are not nested too deeply to be music."""

    depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InvalidMusicXML(f"its elements are nested more than {MAX_DEPTH} deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self.depth -= 1
        return super().end(tag)


def _unpacked(data: bytes) -> bytes:
    """The score inside an archive, of at most `MAX_BYTES`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = (name for name in archive.namelist() if not name.startswith("META-INF"))
            score = next(name for name in names if name.endswith((".xml", ".musicxml")))
            with archive.open(score) as file:
                text = file.read(MAX_BYTES + 1)
    except StopIteration:
        raise InvalidMusicXML("a ZIP archive without a score (.xml or .musicxml)") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise InvalidMusicXML(f"no compressed MusicXML: {error}") from None
    if len(text) > MAX_BYTES:
        raise InvalidMusicXML(f"its score is larger than {MAX_BYTES >> 20} MiB")
    return text
