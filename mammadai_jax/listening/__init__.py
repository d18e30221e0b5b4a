"""Comparisons of melodies by listeners: records and files, simulated listeners, win rates, calibration."""
