"""Statements on gradient flow, label noise and SAM."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ._instances import as_layers, balanced_layers, instance, random_layers
from ._reference import (
    explicit_loss,
    flow,
    flow_field,
    gram_differences,
    hessian_trace,
    product,
)
from ._theorem import Relation, Sides, Theorem

Formula = Callable[..., Any]


def _speed_formula(s: np.ndarray, along: np.ndarray, depth: int) -> np.ndarray:
    """-L (s_r^2)^{1 - 1/L} <gradient, u_r v_r^T>."""
    return -depth * (s**2) ** (1 - 1 / depth) * along


@jax.jit
def _speeds(layers: tuple[Array, ...], matrices: Array, y: Array) -> Array:
    """Time derivatives of the singular values of the product, under gradient flow of all layers."""
    velocity = flow_field(layers, matrices, y)
    spectrum = lambda layers: jnp.linalg.svd(product(layers), full_matrices=False)[1]  # noqa: E731
    return jax.jvp(spectrum, (layers,), (velocity,))[1]


def _speed_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    left: list[np.ndarray] = []
    right: list[np.ndarray] = []
    shape = (4, 3)
    for depth in (2, 3) if quick else (2, 3, 4, 5):
        for kind in ("dense", "entries", "rank one"):
            matrices = instance(kind, rng, shape).matrices
            y = rng.standard_normal(len(matrices))
            matrix = rng.standard_normal(shape)
            layers = as_layers(balanced_layers(matrix, depth))
            u, s, vt = np.linalg.svd(matrix, full_matrices=False)
            residual = np.tensordot(matrices, matrix, 2) - y
            gradient = 2 / len(y) * np.tensordot(residual, matrices, 1)
            along = np.einsum("ar,ab,rb->r", u, gradient, vt)
            left.append(np.asarray(_speeds(layers, jnp.asarray(matrices), jnp.asarray(y))))
            right.append(np.asarray(formula(s, along, depth)))
    return Sides(np.concatenate(left), np.concatenate(right))


SPEED = Theorem(
    name="singular-value dynamics",
    statement=(
        "Under gradient flow from balanced layers d s_r / dt = -L (s_r^2)^{1 - 1/L} <grad l(W), u_r "
        "v_r^T>."
    ),
    latex=r"\dot\sigma_r = -L (\sigma_r^2)^{1 - 1/L} \langle \nabla \ell(W), u_r v_r^\top \rangle",
    hypotheses="Balanced layers, distinct positive singular values.",
    source="Arora et al. 2019 (arXiv 1905.13655), theorem 3",
    relation=Relation.equal,
    tolerance=1e-8,
    formula=_speed_formula,
    sides=_speed_sides,
)


@functools.partial(jax.jit, static_argnames="steps")
def _flowed(layers: tuple, matrices: Array, y: Array, step: Array, steps: int) -> tuple:
    return flow(layers, matrices, y, step, steps)


def _balance_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    """The conserved matrices before and after a simulation, in units of what W_1 W_1^T has moved."""
    before: list[np.ndarray] = []
    after: list[np.ndarray] = []
    scale: list[np.ndarray] = []
    shape = (4, 3)
    for depth in (3,) if quick else (2, 3, 4):
        for kind in ("dense", "entries", "rank one"):
            matrices = jnp.asarray(instance(kind, rng, shape).matrices)
            y = jnp.asarray(rng.standard_normal(len(matrices)))
            start = as_layers([0.7 * layer for layer in random_layers(rng, shape, depth)])
            # The trace bounds the fastest rate; fourth-order steps of 0.02 of it err by about 1e-9.
            step = 0.02 / hessian_trace(start, matrices, y)
            end = _flowed(start, matrices, y, step, 2000)
            moved = np.abs(np.asarray(end[0] @ end[0].T - start[0] @ start[0].T)).max()
            first, last = (
                np.concatenate([np.asarray(part).ravel() for part in formula(layers)])
                for layers in (start, end)
            )
            before.append(first)
            after.append(last)
            scale.append(np.full(len(first), moved))
    return Sides(np.concatenate(before), np.concatenate(after), scale=np.concatenate(scale))


BALANCE = Theorem(
    name="balancedness law",
    statement="Gradient flow keeps W_{j+1}^T W_{j+1} - W_j W_j^T.",
    latex=r"\frac{d}{dt} \bigl( W_{j+1}^\top W_{j+1} - W_j W_j^\top \bigr) = 0",
    hypotheses="Gradient flow of any loss of the end-to-end matrix, any start.",
    source="Arora et al. 2018 (arXiv 1802.06509); Arora et al. 2019 (arXiv 1905.13655)",
    relation=Relation.equal,
    tolerance=1e-7,
    formula=gram_differences,
    sides=_balance_sides,
)


def _interpolating(rng: np.random.Generator, count: int) -> tuple[tuple[Array, ...], Array, Array]:
    """A network of depth 2 and few Gaussian measurements that it interpolates."""
    layers = as_layers(balanced_layers(rng.standard_normal((2, 2)), 2))
    matrices = jnp.asarray(rng.standard_normal((count, 2, 2)))
    return layers, matrices, jnp.tensordot(matrices, product(layers), 2)


def _tangent_trace_gradient(
    layers: tuple[Array, ...], matrices: Array, y: Array
) -> tuple[Array, Array]:
    """P grad tr H by differentiating `jax.hessian`, and the projection P on the Jacobian's kernel."""
    flat, restore = ravel_pytree(layers)
    outputs = lambda x: jnp.tensordot(matrices, product(restore(x)), 2)  # noqa: E731
    J = jax.jacrev(outputs)(flat)
    P = jnp.eye(flat.size) - J.T @ jnp.linalg.solve(J @ J.T, J)
    return P @ jax.grad(lambda x: hessian_trace(restore(x), matrices, y))(flat), P


@jax.jit
def _label_noise(layers: tuple[Array, ...], matrices: Array, y: Array) -> tuple[Array, ...]:
    """sum_k D^2 Phi[h_k, h_k] for H = sum_k h_k h_k^T, Phi where gradient flow ends; see below."""
    flat, restore = ravel_pytree(layers)
    outputs = lambda x: jnp.tensordot(matrices, product(restore(x)), 2)  # noqa: E731
    J = jax.jacrev(outputs)(flat)
    H = 2 / len(y) * J.T @ J
    step = 0.1 / jnp.linalg.eigvalsh(H)[-1]
    end = lambda x: ravel_pytree(flow(restore(x), matrices, y, step, 3000))[0]  # noqa: E731

    def curved(direction: Array) -> Array:
        along = lambda x: jax.jvp(end, (x,), (direction,))[1]  # noqa: E731
        return jax.jvp(along, (flat,), (direction,))[1]

    drift = jnp.sum(jax.vmap(curved)(jnp.sqrt(2 / len(y)) * J), axis=0)
    slowest = jnp.linalg.eigvalsh(J @ J.T)[0] * 2 / len(y)
    return drift, *_tangent_trace_gradient(layers, matrices, y), slowest * step * 3000


def _label_noise_constant(gradient: np.ndarray) -> np.ndarray:
    """-(1/2) P grad tr H."""
    return -gradient / 2


def _label_noise_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    lefts, rights, met, scale = [], [], [], []
    for _ in range(4 if quick else 12):
        drift, gradient, _, time = _label_noise(*_interpolating(rng, 2))
        right = np.asarray(formula(np.asarray(gradient)))
        lefts.append(np.asarray(drift))
        rights.append(right)
        # The slowest direction has to have died out.
        met.append(np.full(len(right), time > 20))
        scale.append(np.full(len(right), np.abs(right).max()))
    joined = [np.concatenate(parts) for parts in (lefts, rights, met, scale)]
    return Sides(*joined)


LABEL_NOISE = Theorem(
    name="label-noise drift",
    statement=(
        "Label noise of covariance c H drifts on the zero-loss manifold by -(c/4) P grad tr H a step: "
        "(c/2) D^2 Phi[H] with D^2 Phi[H] = -(1/2) P grad tr H. Minibatches of B, drawn with "
        "replacement: c = 2 eta^2 sigma^2 / B, a drift of -(eta^2 sigma^2 / 2B) P grad tr H."
    ),
    latex=r"\partial^2 \Phi[H] = -\tfrac12 P \nabla \operatorname{tr} H",
    hypotheses=(
        "Zero loss, regular Jacobian; small steps. Phi is the end of gradient flow, simulated; met "
        "where its slowest direction has died out."
    ),
    source="Damian et al. 2021; Li et al. 2021; constant derived here (docs/theory/flows.md)",
    relation=Relation.equal,
    tolerance=1e-4,
    formula=_label_noise_constant,
    sides=_label_noise_sides,
)


@jax.jit
def _sharpness_aware(layers: tuple[Array, ...], matrices: Array, y: Array) -> tuple[Array, Array]:
    """(1/2) d^2/drho^2 of the mean of P grad l_i(w + rho g_i / ||g_i||) at 0; and P grad tr H."""
    flat, restore = ravel_pytree(layers)
    gradient, P = _tangent_trace_gradient(layers, matrices, y)

    def second_order(A: Array, value: Array) -> Array:
        one = lambda x: explicit_loss(restore(x), A[None], value[None])  # noqa: E731
        output = jax.grad(lambda x: jnp.vdot(A, product(restore(x))))(flat)
        ascent = output / jnp.linalg.norm(output)
        moved = lambda rho: P @ jax.grad(one)(flat + rho * ascent)  # noqa: E731
        return 0.5 * jax.jacfwd(jax.jacfwd(moved))(jnp.asarray(0.0))

    return jnp.mean(jax.vmap(second_order)(matrices, y), axis=0), gradient


def _sam_constant(gradient: np.ndarray) -> np.ndarray:
    """(1/2) P grad tr H."""
    return gradient / 2


def _sam_sides(formula: Formula, rng: np.random.Generator, quick: bool) -> Sides:
    lefts, rights, scale = [], [], []
    for _ in range(4 if quick else 12):
        left, gradient = (np.asarray(part) for part in _sharpness_aware(*_interpolating(rng, 2)))
        right = np.asarray(formula(gradient))
        lefts.append(left)
        rights.append(right)
        scale.append(np.full(len(right), np.abs(right).max()))
    left, right, scales = (np.concatenate(parts) for parts in (lefts, rights, scale))
    return Sides(left, right, scale=scales)


SAM = Theorem(
    name="1-SAM drift",
    statement=(
        "On the zero-loss manifold a step of 1-SAM moves along it by -(eta rho^2 / 2) P grad tr H in "
        "the mean, to second order in rho."
    ),
    latex=r"P \, \mathbb{E}_i \nabla \ell_i \bigl( w + \rho \tfrac{g_i}{\lVert g_i \rVert} \bigr)"
    r" = \tfrac{\rho^2}{2} P \nabla \operatorname{tr} H + O(\rho^3)",
    hypotheses="Zero loss, regular Jacobian, batches of one measurement, small rho.",
    source="Wen, Ma, Li 2022; derived here (docs/theory/flows.md)",
    relation=Relation.equal,
    tolerance=1e-9,
    formula=_sam_constant,
    sides=_sam_sides,
)

THEOREMS = (SPEED, BALANCE, LABEL_NOISE, SAM)
