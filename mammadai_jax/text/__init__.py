"""Text in, vectors out: vocabularies and frozen sentence encoders."""
