"""Notes, theory, statistics, corpora, MIDI, sound and notation: useful without any training."""
