"""A sound bank (SoundFont 2.01) of three instruments of one looped wave each: a few kilobytes."""

import struct

import numpy as np

RATE, PERIOD = 44_000, 100  # a period is 440 Hz
# preset (bank, program) -> the wave: a sine, its third harmonic, and noise for the drums
TIME = 2 * np.pi * np.arange(20 * PERIOD) / PERIOD
WAVES = {
    (0, 0): np.sin(TIME),
    (0, 73): np.sin(3 * TIME),
    (128, 0): np.random.default_rng(0).uniform(-1, 1, len(TIME)),
}
ROOT = 69  # the pitch of all waves, A4
INSTRUMENT, SAMPLE_ID, SAMPLE_MODES = 41, 53, 54  # generators
GAP = 46  # samples of silence between waves


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def listed(kind, *chunks):
    return chunk(b"LIST", kind + b"".join(chunks))


def name(text):
    return text.encode().ljust(20, b"\0")


def hydra():
    """The tables of presets, instruments and samples, each with the record that ends it."""
    count = len(WAVES)
    presets = [
        struct.pack("<20sHHHIII", name(f"preset {index}"), program, bank, index, 0, 0, 0)
        for index, (bank, program) in enumerate(WAVES)
    ]
    presets.append(struct.pack("<20sHHHIII", name("EOP"), 0, 0, count, 0, 0, 0))
    bags = lambda each: b"".join(struct.pack("<HH", each * index, 0) for index in range(count + 1))
    instruments = [struct.pack("<20sH", name(f"instrument {index}"), index) for index in range(count + 1)]
    zones = [struct.pack("<HHHH", SAMPLE_MODES, 1, SAMPLE_ID, index) for index in range(count)]
    headers, length = [], len(TIME)
    for index in range(count):
        start = index * (length + GAP)
        places = start, start + length, start + PERIOD, start + length - PERIOD, RATE
        headers.append(struct.pack("<20sIIIIIBbHH", name(f"wave {index}"), *places, ROOT, 0, 0, 1))
    headers.append(struct.pack("<20sIIIIIBbHH", name("EOS"), *[0] * 9))
    return listed(
        b"pdta",
        chunk(b"phdr", b"".join(presets)),
        chunk(b"pbag", bags(1)),
        chunk(b"pmod", bytes(10)),
        chunk(b"pgen", b"".join(struct.pack("<HH", INSTRUMENT, index) for index in range(count)) + bytes(4)),
        chunk(b"inst", b"".join(instruments)),
        chunk(b"ibag", bags(2)),
        chunk(b"imod", bytes(10)),
        chunk(b"igen", b"".join(zones) + bytes(4)),
        chunk(b"shdr", b"".join(headers)),
    )


def tiny_bank(version=2):
    """The bytes of the bank."""
    info = listed(
        b"INFO",
        chunk(b"ifil", struct.pack("<HH", version, 1)),
        chunk(b"isng", b"EMU8000\0"),
        chunk(b"INAM", b"tiny bank\0"),
    )
    waves = [
        np.concatenate([20_000 * wave, np.zeros(GAP)]).astype("<i2").tobytes() for wave in WAVES.values()
    ]
    return chunk(b"RIFF", b"sfbk" + info + listed(b"sdta", chunk(b"smpl", b"".join(waves))) + hydra())
