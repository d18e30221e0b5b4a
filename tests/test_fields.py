import jax
import pytest
from flax import struct

from mammadai_jax import fields
from mammadai_jax.fields import static, traced


@struct.dataclass
class Inner:
    share: float = traced(0.5, low=0, high=1)


@struct.dataclass
class Example:
    units: int = static(4, low=1, unit="units")
    rate: float = traced(0.1, low=0)
    clip: float | None = traced(None, low=0)
    sizes: tuple[int, ...] = static((1, 2), low=1)
    weights: dict[str, float] = traced(default_factory=dict, low=-1, high=1)
    flag: bool = static(False, low=1)  # a truth value is no number
    free: int = static(0)
    inner: Inner = traced(default_factory=Inner)


def test_static_fields_are_part_of_the_program_and_traced_ones_its_data():
    leaves = jax.tree.leaves(Example(rate=0.3, weights={"a": 0.5}))
    assert leaves == [0.3, 0.5, 0.5]
    assert jax.tree.structure(Example()) == jax.tree.structure(Example(rate=0.7))
    assert jax.tree.structure(Example()) != jax.tree.structure(Example(units=5))


def test_metadata_holds_range_and_unit():
    metadata = Example.__dataclass_fields__["units"].metadata
    assert (metadata["low"], metadata["high"], metadata["unit"]) == (1, None, "units")


def test_mutable_defaults_are_made_anew():
    assert Example().weights is not Example().weights


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, None),
        ({"units": 1, "rate": 0.0, "clip": 0.0, "sizes": (), "weights": {"a": -1, "b": 1.0}}, None),
        ({"units": 0}, "units is between 1 and"),
        ({"units": 2**31}, "units is between 1 and"),
        ({"rate": -1e-9}, "rate is between 0 and inf"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": float("inf")}, "rate"),
        ({"clip": -1.0}, "clip"),
        ({"sizes": (3, 0)}, "sizes"),
        ({"weights": {"a": 0.0, "b": 2.0}}, "weights"),
        ({"free": -(2**31)}, "free"),
        ({"free": 1 - 2**31}, None),
        ({"inner": Inner(share=1.5)}, "inner.share is between 0 and 1, not 1.5"),
    ],
)
def test_numbers_out_of_range_are_named(changes, named):
    found = list(fields.out_of_range(Example(**changes)))
    assert len(found) == (named is not None)
    assert named is None or found[0].startswith(named)


def test_places_are_given_with_their_path():
    (sentence,) = fields.out_of_range(Example(inner=Inner(share=-1.0)), "prior.learner")
    assert sentence.startswith("prior.learner.inner.share ")
