"""Choices by raters whose behaviour is known."""

import numpy as np

from mammadai_jax.listening import davidson
from mammadai_jax.listening.comparison import Comparison


def one(a, b, choice, *, listener="", prompt="", first=""):
    """A choice between two systems."""
    names = {"system_a": a, "system_b": b, "listener": listener, "played_first": first}
    return Comparison(prompt=prompt, a=(14, 0), b=(16, 0), choice=choice, simulated=True, **names)


def choices(random, strengths, *, raters, each, first=0.0, log_nu=-1.0):
    """So many choices by each rater between systems of these strengths; being first has log odds too."""
    names, made = sorted(strengths), []
    for rater in range(raters):
        for number in range(each):
            a, b = random.choice(names, size=2, replace=False)
            begins = random.choice(["a", "b"])
            d = strengths[a] - strengths[b] + (first if begins == "a" else -first)
            choice = random.choice(["a", "tie", "b"], p=davidson.probabilities(np.float64(d), log_nu))
            about = {"listener": f"r{rater}", "prompt": f"p{number}", "first": begins}
            made.append(one(str(a), str(b), str(choice), **about))
    return made
