"""A training in one HTML file: every stage to hear, to see and in numbers, without a network."""

from mammadai_jax.training.report.audio import Sample
from mammadai_jax.training.report.page import (
    Progress,
    Renderer,
    Report,
    StageReport,
    html_page,
    update_progress,
    write,
)
from mammadai_jax.training.report.table import Comparison

__all__ = [
    "Comparison",
    "Progress",
    "Renderer",
    "Report",
    "Sample",
    "StageReport",
    "html_page",
    "update_progress",
    "write",
]
