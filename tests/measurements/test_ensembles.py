"""Every ensemble is the same linear map, however it stores itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatrank as fr

SHAPES = [(4, 4), (5, 3), (3, 6)]


def symmetric(key, size):
    matrix = jax.random.normal(key, (size, size))
    return matrix @ matrix.T


@pytest.mark.parametrize("shape", SHAPES)
def test_apply_is_the_inner_product(ensemble, explicit, shape):
    A = ensemble(*shape)
    matrix = jax.random.normal(jax.random.key(0), shape)
    expected = np.einsum("imn,mn->i", explicit(A), matrix)
    np.testing.assert_allclose(A.apply(matrix), expected, rtol=1e-12, atol=1e-12)
    assert A.apply(matrix).shape == (A.count,)


@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint(ensemble, shape):
    A = ensemble(*shape)
    matrix = jax.random.normal(jax.random.key(1), shape)
    values = jax.random.normal(jax.random.key(2), (A.count,))
    left, right = jnp.vdot(A.apply(matrix), values), jnp.vdot(matrix, A.adjoint(values))
    np.testing.assert_allclose(left, right, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_apply_network_is_apply_of_its_matrix(ensemble, shape, depth):
    A = ensemble(*shape)
    network = fr.DeepLinear.gaussian(jax.random.key(3), shape, depth, width=5)
    np.testing.assert_allclose(A.apply_network(network), A.apply(network.matrix()), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_second_moments(ensemble, explicit, shape):
    A = ensemble(*shape)
    m, n = shape
    S, T = symmetric(jax.random.key(4), n), symmetric(jax.random.key(5), m)
    matrices = explicit(A)
    K = np.einsum("iab,bc,idc->ad", matrices, S, matrices) / A.count
    K_adjoint = np.einsum("iba,bc,icd->ad", matrices, T, matrices) / A.count
    np.testing.assert_allclose(A.second_moment(S), K, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(A.second_moment_adjoint(T), K_adjoint, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_second_moment_forms(ensemble, explicit, shape):
    A = ensemble(*shape)
    m, n = shape
    P, Q = (
        jax.random.normal(jax.random.key(6), (m, 2)),
        jax.random.normal(jax.random.key(7), (2, n)),
    )
    expected = [
        np.sum(np.einsum("ap,iab,qb->ipq", p, explicit(A), q) ** 2) / A.count
        for p, q in ((P, Q), (np.eye(m), Q), (P, np.eye(n)), (np.eye(m), np.eye(n)))
    ]
    forms = A.second_moment_forms((P, None, P, None), (Q, Q, None, None))
    np.testing.assert_allclose(forms, expected, rtol=1e-11)
    np.testing.assert_allclose(A.mean_square_norm(), expected[-1], rtol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_second_moment_grams(ensemble, explicit, shape):
    A = ensemble(*shape)
    m, n = shape
    P, Q = (
        jax.random.normal(jax.random.key(6), (m, 2)),
        jax.random.normal(jax.random.key(7), (2, n)),
    )
    matrices = explicit(A)
    for q, given in ((Q, Q), (np.eye(n), None)):
        seen = np.einsum("ap,iab,qb->ipq", P, matrices, q)
        expected = np.einsum("ipq,irq->pr", seen, seen) / A.count
        np.testing.assert_allclose(A.second_moment_gram(P, given), expected, rtol=1e-11, atol=1e-11)
    for p, given in ((P, P), (np.eye(m), None)):
        seen = np.einsum("ap,iab,qb->ipq", p, matrices, Q)
        expected = np.einsum("ipq,ips->qs", seen, seen) / A.count
        found = A.second_moment_adjoint_gram(Q, given)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.slow
def test_isotropic_scale_is_the_frobenius_norm():
    A = fr.IsotropicMeasurements((4, 7))
    matrix = jax.random.normal(jax.random.key(0), (4, 7))
    np.testing.assert_allclose(jnp.mean(A.apply(matrix) ** 2), jnp.sum(matrix**2), rtol=1e-12)


@pytest.mark.slow
def test_gaussian_measurements_have_unit_variance_and_are_reproducible():
    first = fr.gaussian_measurements(jax.random.key(0), 500, (8, 9)).matrices
    again = fr.gaussian_measurements(jax.random.key(0), 500, (8, 9)).matrices
    assert (first == again).all()
    assert abs(float(first.mean())) < 0.02
    assert abs(float(first.var()) - 1) < 0.03


@pytest.mark.slow
def test_streamed_chunks_equal_one_chunk(monkeypatch):
    from flatrank.measurements import _dense as dense

    A = fr.DenseMeasurements(jax.random.normal(jax.random.key(0), (23, 4, 5)), prepare=False)
    S = symmetric(jax.random.key(1), 5)
    whole = A.second_moment(S)
    monkeypatch.setattr(dense, "_CHUNK_LIMIT", 4 * 20)
    np.testing.assert_allclose(A.second_moment(S), whole, rtol=1e-13)


@pytest.mark.slow
def test_gathered_in_parts_equals_at_once(monkeypatch):
    from flatrank.measurements import _entries as entries

    A = fr.EntryMeasurements.from_mask(np.ones((6, 7), bool))
    network = fr.DeepLinear.gaussian(jax.random.key(0), (6, 7), 3)
    whole = A.apply_network(network)
    monkeypatch.setattr(entries, "_GATHER_LIMIT", 30)
    np.testing.assert_allclose(A.apply_network(network), whole, rtol=1e-13)


@pytest.mark.slow
def test_tensor_is_built_where_it_pays_and_only_there():
    key = jax.random.key(0)
    for prepare in (True, False):
        many = fr.gaussian_measurements(key, 400, (6, 6), prepare=prepare)
        few = fr.gaussian_measurements(key, 2, (6, 6), prepare=prepare)
        assert many.prepared().moment_tensor is not None
        assert few.prepared().moment_tensor is None


def test_what_is_cheap_is_prepared_without_asking(monkeypatch):
    from flatrank import _checks
    from flatrank.measurements import _dense as dense

    matrices = jax.random.normal(jax.random.key(0), (400, 6, 6))
    A = fr.DenseMeasurements(matrices)
    assert A.moment_tensor is not None
    assert A.row_moment is not None
    same = fr.DenseMeasurements(2 * matrices)
    assert jax.tree.structure(A) == jax.tree.structure(same)
    assert fr.DenseMeasurements(np.asarray(matrices, np.float32)).moment_tensor is not None

    def unprepared(A):
        return A.row_moment is None and A.column_moment is None and A.moment_tensor is None

    assert unprepared(fr.DenseMeasurements(matrices, prepare=False))
    assert unprepared(A.part(jnp.arange(300)))
    assert jax.jit(lambda M: fr.DenseMeasurements(M))(matrices).moment_tensor is None
    # A constant under `jit` is as good as an array outside.
    constant = jax.jit(lambda: fr.DenseMeasurements(matrices))()
    np.testing.assert_array_equal(constant.moment_tensor, A.moment_tensor)
    monkeypatch.setattr(_checks, "free_memory", lambda: 1000)
    assert fr.DenseMeasurements(matrices).moment_tensor is None
    monkeypatch.undo()
    monkeypatch.setattr(dense, "LITTLE_WORK", 1000)
    assert unprepared(fr.DenseMeasurements(matrices))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 1, 1), (30, 7, 4), (40, 3, 5), (400, 17, 16)])
def test_moments_by_numpy_are_those_by_xla(shape):
    from flatrank.measurements import _moments

    matrices = jax.random.normal(jax.random.key(0), shape)
    np.testing.assert_allclose(
        _moments.moment_tensor(matrices),
        _moments._moment_tensor_by_xla(matrices),
        rtol=0,
        atol=1e-12,
    )
    for found, expected in zip(
        _moments.end_moments(matrices), _moments._end_moments_by_xla(matrices), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_tensor_is_not_built_for_two_layers_nor_for_narrow_ones():
    A = fr.gaussian_measurements(jax.random.key(0), 15, (6, 6))
    assert A.prepared(depth=3).moment_tensor is not None
    assert A.prepared(depth=2).moment_tensor is None
    assert A.prepared(depth=3, width=1).moment_tensor is None
    assert A.prepared(depth=3, memory=1000).moment_tensor is None
    with pytest.raises(ValueError, match="`memory` must be an integer"):
        A.prepared(memory=0)


@pytest.mark.slow
def test_prepared_moments_equal_the_stream():
    A = fr.gaussian_measurements(jax.random.key(0), 100, (6, 5), prepare=False)
    prepared = A.prepared()
    P, Q = (
        jax.random.normal(jax.random.key(1), (6, 3)),
        jax.random.normal(jax.random.key(2), (9, 5)),
    )
    wide = jax.random.normal(jax.random.key(3), (6, 8))
    lefts, rights = (P, None, P, None, wide, wide), (None, Q, Q, None, Q, P.T @ wide[:, :5])
    np.testing.assert_allclose(
        prepared.second_moment_forms(lefts, rights),
        A.second_moment_forms(lefts, rights),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        prepared.second_moment_gram(P, None), A.second_moment_gram(P, None), rtol=1e-12
    )
    np.testing.assert_allclose(
        prepared.second_moment_adjoint_gram(Q, None),
        A.second_moment_adjoint_gram(Q, None),
        rtol=1e-12,
    )
    np.testing.assert_allclose(prepared.mean_square_norm(), A.mean_square_norm(), rtol=1e-12)


def test_tensor_is_not_built_where_it_does_not_fit(monkeypatch):
    from flatrank import _checks

    monkeypatch.setattr(_checks, "free_memory", lambda: 1000)
    A = fr.DenseMeasurements(jnp.ones((400, 6, 6)))
    assert A.prepared().moment_tensor is None


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        (np.diag([1.0, 2.0, -0.1]), "`S` is not positive semidefinite"),
        (np.triu(np.ones((3, 3))), "`S` is not symmetric"),
        (np.eye(4), r"`S` has shape \(4, 4\) and must be \(3, 3\)"),
        (np.eye(3, dtype=complex), "`S` is complex"),
    ],
)
def test_arguments_of_second_moments_are_gram_matrices(ensemble, argument, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        ensemble(4, 3).second_moment(argument)
    with pytest.raises((ValueError, TypeError), match=sentence.replace("`S`", "`T`")):
        ensemble(3, 4).second_moment_adjoint(argument)


BAD = [
    (lambda: fr.DenseMeasurements(np.ones((3, 4))), ValueError, "`matrices` must have 3 axes"),
    (lambda: fr.DenseMeasurements(np.full((1, 2, 2), np.nan)), ValueError, "4 NaN or infinite"),
    (lambda: fr.DenseMeasurements(np.ones((1, 2, 2), complex)), TypeError, "complex128"),
    (lambda: fr.DenseMeasurements(np.array([[[{}]]])), TypeError, "object"),
    (lambda: fr.DenseMeasurements(np.ones((0, 2, 2))), ValueError, "at least one measurement"),
    (lambda: fr.RankOneMeasurements(np.ones((3, 2)), np.ones((4, 2))), ValueError, "3 rows"),
    (lambda: fr.EntryMeasurements([0, 3], [0, 0], (3, 2)), ValueError, "index 3, outside 0..2"),
    (lambda: fr.EntryMeasurements([0, -1], [0, 0], (3, 2)), ValueError, "index -1"),
    (
        lambda: fr.EntryMeasurements([0, 0], [1, 1], (3, 2)),
        ValueError,
        "entry (0, 1) more than once",
    ),
    (lambda: fr.EntryMeasurements([0.5], [1], (3, 2)), TypeError, "integers"),
    (lambda: fr.EntryMeasurements([], [], (3, 2)), TypeError, "`rows`"),
    (lambda: fr.EntryMeasurements([0, 1], [1], (3, 2)), ValueError, "one of each"),
    (lambda: fr.EntryMeasurements.from_mask(np.ones(3)), ValueError, "`mask`"),
    (lambda: fr.IsotropicMeasurements((0, 3)), ValueError, "positive"),
    (lambda: fr.gaussian_measurements(jax.random.key(0), 0, (2, 2)), ValueError, "`count`"),
    (lambda: fr.gaussian_measurements(jax.random.key(0), 10**9, (999, 999)), MemoryError, "GiB"),
]


@pytest.mark.parametrize(("build", "error", "words"), BAD)
def test_bad_input_is_named_with_its_remedy(build, error, words):
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)
