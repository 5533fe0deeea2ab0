"""Checkpoints of a run on disk (orbax): whole or not there, resumed bit for bit."""

import dataclasses
import functools
import hashlib
import json
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Two, so that a crash while one is written leaves the other.
_KEPT = 2


def fingerprint(*trees: Any) -> str:
    """A digest of all arrays of some trees, keys of random numbers included."""
    digest = hashlib.sha256()
    for tree in trees:
        # The structure may hold functions, whose addresses change from process to process: left out.
        leaves = jax.tree.leaves(tree)
        digest.update(str(len(leaves)).encode())
        for leaf in leaves:
            array = _as_numpy(leaf)
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def described(value: Any) -> Any:
    """What a value is, as JSON: classes, fields, digests of arrays, functions and closures."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return fingerprint(value)
    if dataclasses.is_dataclass(value):
        fields = {f.name: described(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [type(value).__qualname__, fields]
    if isinstance(value, dict):
        return {str(name): described(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [type(value).__qualname__, *map(described, value)]
    if isinstance(value, functools.partial):
        return [described(value.func), described(value.args), described(value.keywords)]
    if isinstance(value, types.FunctionType):
        cells = [described(cell.cell_contents) for cell in value.__closure__ or ()]
        code = hashlib.sha256(value.__code__.co_code).hexdigest()
        constants = [one for one in value.__code__.co_consts if not isinstance(one, types.CodeType)]
        return [
            value.__qualname__,
            code,
            described(constants),
            described(value.__defaults__),
            cells,
        ]
    return getattr(value, "__qualname__", type(value).__qualname__)


def _as_numpy(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


class Checkpoints:
    """The checkpoints of one run in a folder, which is made if need be.

    Raises ValueError for a folder that holds another run's, FileExistsError for a file in its place.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]):
        # Imported here: it takes a second, and only runs with checkpoints need it.
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self.folder = Path(folder).absolute()
        if self.folder.exists() and not self.folder.is_dir():
            raise FileExistsError(f"{self.folder} is a file: name a folder for the checkpoints.")
        self._settings = json.loads(json.dumps(settings))
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=_KEPT,
                create=True,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=False,
            ),
        )

    def save(self, step: int, state: Any) -> None:
        """Write the arrays of a state; what was there stays until this is whole."""
        ocp = self._ocp
        arrays = {f"{k}": _as_numpy(leaf) for k, leaf in enumerate(jax.tree.leaves(state))}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), settings=ocp.args.JsonSave(self._settings)
            ),
        )
        self._manager.wait_until_finished()

    def latest(self, like: Any) -> tuple[int, Any] | None:
        """The last whole checkpoint: its step, and its state in the structure of `like`."""
        ocp = self._ocp
        step = self._manager.latest_step()
        if step is None:
            return None
        found = self._manager.restore(
            step, args=ocp.args.Composite(settings=ocp.args.JsonRestore())
        ).settings
        if found != self._settings:
            differing = sorted(
                name
                for name in {*found, *self._settings}
                if found.get(name) != self._settings.get(name)
            )
            raise ValueError(
                f"`checkpoint` folder {self.folder} holds another run (other {', '.join(differing)}): "
                "name another folder, or remove it to start again."
            )
        leaves, structure = jax.tree.flatten(like)
        shapes = {f"{k}": np.empty_like(_as_numpy(leaf)) for k, leaf in enumerate(leaves)}
        arrays = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
        ).state
        restored = [
            jax.random.wrap_key_data(jnp.asarray(arrays[f"{k}"]), impl=jax.random.key_impl(leaf))
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else jnp.asarray(arrays[f"{k}"])
            for k, leaf in enumerate(leaves)
        ]
        return step, jax.tree.unflatten(structure, restored)

    def close(self) -> None:
        """Let go of the folder."""
        self._manager.close()
