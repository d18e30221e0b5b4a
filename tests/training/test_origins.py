import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.training.origins import origin


def arises(x, bad):
    return jnp.log(x - bad)


def nested(x, bad):
    return jax.jit(lambda y: jax.checkpoint(lambda z: arises(z, bad))(y))(x)


def in_scan(x, bad):
    """In the third turn, after which it is carried on."""

    def turn(carry, row):
        return carry + jnp.where(row == 2, arises(x, bad), 0.0), carry * row

    return jax.lax.scan(turn, x, jnp.arange(5.0))[0]


def backwards(x, bad):
    turn = lambda carry, row: (carry + 1.0, carry * jnp.where(row == 1, arises(x, bad), 1.0))
    return jax.lax.scan(turn, x, jnp.arange(5.0), reverse=True)[1]


def carried(x, bad):
    """From one place of the carry into another, a turn later."""
    turn = lambda carry, row: ((carry[1], jnp.where(row == 1, arises(x, bad), carry[0])), ())
    return jax.lax.scan(turn, (x, x), jnp.arange(3.0))[0][0]


def in_while(x, bad):
    turn = lambda state: (state[0] + 1, state[1] + arises(x, bad * (state[0] == 2)))
    return jax.lax.while_loop(lambda state: state[0] < 4, turn, (0, x))[1]


def in_cond(x, bad):
    return jax.lax.cond(x > 0, lambda: arises(x, bad), lambda: x)


def in_gradient(x, bad):
    return jax.grad(lambda y: y * jax.lax.stop_gradient(arises(y, bad)))(x)


def in_vmap(x, bad):
    return jax.vmap(lambda y: arises(y, bad))(jnp.stack([x, x + 9.0])).sum()


KINDS = (arises, nested, in_scan, backwards, carried, in_while, in_cond, in_gradient, in_vmap)


@pytest.mark.parametrize("function", KINDS)
@pytest.mark.parametrize(("bad", "value"), [(2.0, "nan"), (1.0, "-inf")])
def test_it_is_found_in_whatever_it_arose(function, bad, value):
    found = origin(lambda x, bad: {"result": function(x, bad)}, x=jnp.float32(1.0), bad=jnp.float32(bad))
    assert (found.value, found.operation, found.result) == (value, "log", "result")
    assert found.place[0].endswith("(arises)") and "test_origins.py" in found.place[0]


@pytest.mark.parametrize("function", KINDS)
def test_nothing_is_found_where_all_is_finite(function):
    assert origin(function, x=jnp.float32(1.0), bad=jnp.float32(0.0)) is None


def test_infinities_that_a_mask_takes_away_are_left_out():
    def masked(x):
        weights = jax.nn.softmax(jnp.where(x > 1.0, -jnp.inf, x))
        return {"weights": weights, "sum": (weights * arises(x, 2.0)).sum()}

    assert origin(masked, x=jnp.arange(3.0)).operation == "log"
    assert origin(lambda x: masked(x)["weights"], x=jnp.arange(3.0)) is None


def test_inputs_and_constants_are_named():
    data = {"rows": jnp.array([0.0, jnp.inf])}
    found = origin(lambda state, data: state + data["rows"].sum(), state=jnp.float32(0.0), data=data)
    assert (found.value, found.operation, found.place) == ("inf", "input", ("data.rows",))
    table = np.array([1.0, np.nan], np.float32)
    found = origin(lambda x: x * table, x=jnp.float32(1.0))
    assert found.value == "nan"


def test_a_function_of_jax_is_named_by_the_line_that_calls_it():
    first = lambda x: jnp.where(x > 0, 1.0, x)
    assert origin(first, x=jnp.arange(3.0)) is None

    def corrupt(x):
        return jnp.where(x > 0, jnp.nan, x)  # of the shape that the line above was traced with

    found = origin(corrupt, x=jnp.arange(3.0))
    assert found.operation == "_where" and found.place[0].endswith("corrupt)")
