"""Small problems of training, and the loss written out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import flatrank as fr


class Problem(NamedTuple):
    A: fr.DenseMeasurements
    y: jax.Array
    network: fr.DeepLinear
    truth: jax.Array


def small(depth=3, shape=(5, 4), count=12, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    truth = fr.DeepLinear.gaussian(keys[0], shape, 2, 1).matrix()
    A = fr.gaussian_measurements(keys[1], count, shape)
    network = fr.DeepLinear.gaussian(keys[2], shape, depth, scale=0.3)
    return Problem(A, A.apply(truth / jnp.linalg.norm(truth)), network, truth)


def product(layers):
    matrix = layers[0]
    for layer in layers[1:]:
        matrix = layer @ matrix
    return matrix


def explicit_loss(layers, matrices, y):
    return jnp.mean((jnp.einsum("iab,ab->i", matrices, product(layers)) - y) ** 2)
