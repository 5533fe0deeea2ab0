"""Products by machine code are XLA's, with all their derivatives; where it cannot be, XLA does them."""

import ctypes
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import flatrank as fr
from flatrank.measurements import _foreign, _one_pass

pytest.importorskip("numba")

SHAPES = [(1, 1), (3, 5), (7, 37), (12, 16), (25, 9)]
DTYPES = [np.float32, np.float64]


@pytest.fixture(autouse=True)
def _however_small(monkeypatch):
    """Machine code for matrices of any size."""
    monkeypatch.setattr(_one_pass, "_LEAST_BYTES", 0)


@pytest.fixture
def engines(monkeypatch):
    """Both ways to compute the same, one after the other."""

    def both():
        for allowed in (True, False):
            monkeypatch.setattr(_foreign, "_allowed", allowed)
            yield allowed

    return both


def normal(seed, dtype, *shapes):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def agree(found, expected, dtype=np.float64):
    """Up to round-off of short sums, relative to the largest entry."""
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == two.dtype == dtype
        slack = 200 * float(jnp.finfo(dtype).eps) * max(float(jnp.max(jnp.abs(two))), 1e-30)
        np.testing.assert_allclose(one, two, rtol=0, atol=slack)


@pytest.mark.parametrize("dtype", DTYPES)
def test_machine_code_works_here(dtype):
    assert _foreign.works("squares", dtype)
    assert _foreign.works("both_sides", dtype)
    assert not _foreign.works("squares", np.float16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_squares_are_those_of_xla(shape, dtype):
    A, w, y = normal(0, dtype, shape, shape[1], shape[0])
    agree(jax.jit(_one_pass._squares)(A, w, y), _one_pass._plain_squares(A, w, y), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_with_both_sides_are_those_of_xla(shape, pairs, dtype):
    T, left, right = normal(1, dtype, shape, (pairs, shape[0]), (pairs, shape[1]))
    found = jax.jit(_one_pass._both_sides)(T, left, right)
    agree(found, _one_pass._plain_both_sides(T, left, right), dtype)


def test_machine_code_is_called_on_cpus_and_nowhere_else():
    A, w, y = normal(0, np.float64, (7, 5), 5, 7)
    traced = jax.jit(_one_pass._squares).trace(A, w, y)
    assert "flatrank_squares_float64" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "flatrank_squares" not in traced.lower(lowering_platforms=("cuda",)).as_text()


def problem(depth=4, shape=(4, 3), count=26, dtype=np.float64):
    network = fr.DeepLinear.gaussian(jax.random.key(0), shape, depth)
    network = jax.tree.map(lambda x: x.astype(dtype), network)
    matrices, y = normal(2, dtype, (count, *shape), count)
    return network, matrices, y


def ours(network, A, y):
    return fr.loss(network, A, y) + 0.1 * fr.trace_of_hessian(network, A)


def explicit(network, A, y):
    """The same by the definition, for automatic differentiation."""
    matrices = A.matrices
    total = jnp.mean((jnp.einsum("imn,mn->i", matrices, network.matrix()) - y) ** 2)
    m, n = network.shape
    dtype = matrices.dtype
    for P, Q in zip(network.uppers(), network.lowers(), strict=True):
        P, Q = (
            jnp.eye(m, dtype=dtype) if P is None else P,
            jnp.eye(n, dtype=dtype) if Q is None else Q,
        )
        seen = jnp.einsum("ap,iab,qb->ipq", P, matrices, Q)
        total = total + 0.2 * jnp.sum(seen**2) / A.count
    return total


def in_a_scan(function):
    def run(x):
        def step(x, _):
            value, slope = jax.value_and_grad(function)(x)
            return x - 1e-3 * slope, value

        return jax.lax.scan(step, x, None, length=3)

    return run


def in_a_while_loop(function):
    def step(state):
        k, x = state
        return k + 1, x - 1e-3 * jax.grad(function)(x)

    return lambda x: jax.lax.while_loop(lambda state: state[0] < 3, step, (jnp.asarray(0), x))[1]


def along(x):
    return jax.random.normal(jax.random.key(7), x.shape, x.dtype)


DERIVATIVES = {
    "value and gradient": jax.value_and_grad,
    "forward over reverse": lambda f: lambda x: jax.jvp(jax.grad(f), (x,), (along(x),)),
    "reverse over reverse": lambda f: jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), along(x))),
    "hessian": jax.hessian,
    "linearize": lambda f: lambda x: jax.linearize(jax.grad(f), x)[1](along(x)),
    "vmap": lambda f: lambda x: jax.vmap(jax.value_and_grad(f))(jnp.stack([x, 2 * x])),
    "scan": in_a_scan,
    "gradient of a scan": lambda f: jax.grad(lambda x: jnp.sum(in_a_scan(f)(x)[1])),
    "while loop": in_a_while_loop,
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
}


@pytest.mark.slow
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_derivatives_are_those_of_the_definition(derivative, engines):
    network, matrices, y = problem(depth=4 if derivative == "hessian" else 3)
    A = fr.DenseMeasurements(matrices)
    assert A.moment_tensor is not None
    flat, restore = ravel_pytree(network)

    def derived(f):
        return jax.jit(DERIVATIVES[derivative](lambda x: f(restore(x), A, y)))(flat)

    expected = derived(explicit)
    for _ in engines():
        agree(derived(ours), expected)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [0, 1, 2, (0, 1, 2)])
def test_every_argument_has_its_derivative(arguments, engines):
    """The layers, the measurements (also through their moments), the values; and all at once."""
    network, matrices, y = problem(depth=3, shape=(3, 2), count=9)

    def derived(f):
        def of_arrays(network, matrices, y):
            # Under `jit` nothing is prepared until it is asked for.
            return f(network, fr.DenseMeasurements(matrices).prepared(), y)

        return jax.jit(jax.grad(of_arrays, arguments))(network, matrices, y)

    expected = derived(explicit)
    for _ in engines():
        agree(derived(ours), expected)


@pytest.mark.slow
def test_forward_mode_in_all_arguments_at_once(engines):
    network, matrices, y = problem(depth=3)
    A = fr.DenseMeasurements(matrices)

    def derived(f):
        at = (network, matrices, y)
        return jax.jit(
            lambda *along: jax.jvp(lambda n, M, y: f(n, fr.DenseMeasurements(M), y), at, along)
        )(*at)

    expected = derived(explicit)
    for _ in engines():
        agree(derived(ours), expected)
    assert A.moment_tensor is not None


@pytest.mark.slow
def test_mixed_second_derivatives(engines):
    network, matrices, y = problem(depth=3)
    A = fr.DenseMeasurements(matrices)
    flat, restore = ravel_pytree(network)

    def derived(f):
        gradient = jax.grad(lambda x, y: f(restore(x), A, y))
        return jax.jit(jax.jacrev(gradient, 1))(flat, y)

    expected = derived(explicit)
    for _ in engines():
        agree(derived(ours), expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_as_an_argument_and_closed_over(dtype, engines):
    network, matrices, y = problem(dtype=dtype)
    A = fr.DenseMeasurements(matrices)
    expected = jax.jit(jax.value_and_grad(explicit))(network, A, y)
    for _ in engines():
        agree(jax.jit(jax.value_and_grad(lambda *x: ours(*x)))(network, A, y), expected, dtype)
        agree(jax.jit(jax.value_and_grad(lambda n: ours(n, A, y)))(network), expected, dtype)


@pytest.mark.slow
def test_batches_of_measurements(engines):
    network, matrices, y = problem(depth=3)
    A = [fr.DenseMeasurements(scale * matrices) for scale in (1.0, 2.0)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *A)
    one = jax.jit(jax.grad(explicit))
    expected = jax.tree.map(lambda *x: jnp.stack(x), *(one(network, a, y) for a in A))
    for _ in engines():
        batch = jax.jit(jax.vmap(lambda a: jax.grad(ours)(network, a, y)))
        agree(batch(stacked), expected)


@pytest.mark.slow
def test_the_trace_is_that_of_the_hessian(engines):
    network, matrices, y = problem(depth=3)
    A = fr.DenseMeasurements(matrices)
    flat, restore = ravel_pytree(network)
    for _ in engines():
        hessian = jax.jit(jax.hessian(lambda x: fr.loss(restore(x), A, y)))(flat)
        np.testing.assert_allclose(fr.trace_of_hessian(network, A), jnp.trace(hessian), rtol=1e-12)


@pytest.mark.slow
def test_other_data_types_are_left_to_xla():
    A, w, y = normal(0, np.float32, (7, 5), 5, 7)
    with jax.numpy_dtype_promotion("standard"):
        found = jax.grad(_one_pass.sum_of_squares, 1)(A, w, y.astype(np.float64))
        half = _one_pass.sum_of_squares(*(x.astype(jnp.float16) for x in (A, w, y)))
    np.testing.assert_allclose(found, 2 * (A @ w - y) @ A, rtol=1e-5)
    assert half.dtype == jnp.float16


def test_threads_do_not_disturb_each_other():
    shape = (41, 67)
    call = jax.jit(jax.value_and_grad(_one_pass.sum_of_squares, 1))
    problems = [normal(seed, np.float64, shape, shape[1], shape[0]) for seed in range(8)]
    expected = [
        (_one_pass._plain_sum_of_squares(A, w, y), 2 * (A @ w - y) @ A) for A, w, y in problems
    ]
    failed = []

    def work(k):
        try:
            for _ in range(50):
                agree(call(*problems[k]), expected[k])
        except AssertionError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(problems))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def wrong(dtype):
    return False


def raises(dtype):
    raise RuntimeError


TROUBLES = {
    "no Numba": lambda patch: patch.setattr("importlib.util.find_spec", lambda name: None),
    "no header": lambda patch: patch.setattr(_foreign, "_HEADER", _foreign._HEADER / "none"),
    "another layout": lambda patch: patch.setitem(_foreign._STRUCTS, "XLA_FFI_Buffer", "int a;"),
    "another version": lambda patch: patch.setattr(_foreign, "_LINES", ("XLA_FFI_API_MINOR 99",)),
    "wrong numbers": lambda patch: patch.setitem(_foreign._SELF_TESTS, "squares", wrong),
    "an exception": lambda patch: patch.setitem(_foreign._SELF_TESTS, "squares", raises),
    "many devices": lambda patch: patch.setattr(jax, "device_count", lambda: 8),
    "another platform": lambda patch: patch.setattr(jax, "default_backend", lambda: "gpu"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_whatever_goes_wrong_xla_does_the_work(trouble, monkeypatch):
    monkeypatch.setattr(_foreign, "_known", {})
    TROUBLES[trouble](monkeypatch)
    assert not _foreign.works("squares", np.float64)
    A, w, y = normal(0, np.float64, (7, 5), 5, 7)
    call = jax.jit(lambda *x: _one_pass._squares(*x))
    assert "flatrank" not in call.lower(A, w, y).as_text()
    agree(call(A, w, y), _one_pass._plain_squares(A, w, y))


def test_the_self_test_sees_wrong_numbers(monkeypatch):
    monkeypatch.setattr(_foreign, "squares", lambda A, w, y: (w @ w, w))
    assert not _foreign._squares_are_right(np.dtype(np.float64))
    monkeypatch.setattr(_foreign, "both_sides", lambda T, left, right: (left, right))
    assert not _foreign._both_sides_are_right(np.dtype(np.float64))


def test_a_frame_of_another_size_is_not_read():
    assert _foreign.works("squares", np.float64)
    handler = _foreign._known["flatrank_squares_float64"].ctypes
    # Buffers at address 1: reading them would end the process.
    frame = np.ones(22, np.int64)
    frame[1] = 0
    for size in (0, 160, 176):
        frame[0] = size
        assert handler(ctypes.c_ssize_t(frame.ctypes.data)) == 0
