"""What all tests share: quick compilation, eight devices, the taught road, eager, jit and vmap in turn."""

import gc
import os
import shutil
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
import pytest
from filelock import FileLock

# Most of the tests' time is the compiler's: without its optimisations and its newer emitter of fused loops a
# program is compiled in half the time. Processes that tests start compile as a user's do, on one device.
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0"
if jaxlib.version.__version_info__ < (0, 12):  # later ones do not know the flag, and end the process
    QUICK_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"
DEVICES = 8
FLAGS = (
    f"{os.environ.get('XLA_FLAGS', '')} {QUICK_TO_COMPILE} --xla_force_host_platform_device_count={DEVICES}"
)
with mock.patch.dict(os.environ, {"XLA_FLAGS": FLAGS}):
    jax.devices()

# Tracing makes many small objects that live long. To look through all of them again and again took a tenth of
# the tests' time.
gc.freeze()
gc.set_threshold(50_000, 20, 100)

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mammadai_jax" / "tests"

jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _twice(function):
    """A function under vmap: called on two equal rows, which must give equal answers, to rounding."""

    def call(*arguments):
        rows = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), arguments)
        answers = jax.vmap(function)(*rows)
        jax.tree.map(lambda x: np.testing.assert_allclose(x[0], x[1], rtol=1e-5, atol=1e-6), answers)
        return jax.tree.map(lambda x: x[0], answers)

    return call


def pytest_make_parametrize_id(val, argname):
    """A case made of bytes is named by its argument and number.

    The bytes of an archive hold the time of its making, and processes must agree on the names of tests.
    """
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True, scope="module")
def _programs_of_one_module():
    """A compiled program holds memory maps, and those of all tests are more than a process may have."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def taught(tmp_path_factory):
    """The run directory of all stages, tiny ones (tests/training/tiny.py), trained once for all processes.

    Only to be read: a test that changes a run copies it first.
    """
    from mammadai_jax import stages
    from mammadai_jax.training import teach
    from tests.training import tiny

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # which this session's processes share
    out, ended = root / "taught", root / "taught.ended"
    with FileLock(root / "taught.lock"):
        if not ended.exists():
            shutil.rmtree(out, ignore_errors=True)
            # every preset is traced by stages/test_registry.py: here it would only take time
            with mock.patch.object(teach, "dry_run", return_value={}):
                assert stages.teach(tiny.ROAD, out) == out / "report.html"
            ended.touch()
    return out


@pytest.fixture
def random():
    """Each test its own numbers, whatever ran before it."""
    return np.random.default_rng(0)


@pytest.fixture(params=["eager", "jit", "vmap"])
def transform(request):
    """Ways to call a function of arrays that must all give the same."""
    return {"eager": lambda function: function, "jit": jax.jit, "vmap": _twice}[request.param]
