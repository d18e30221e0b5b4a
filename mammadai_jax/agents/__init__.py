"""Learners: each file is Config, State, init and step."""
