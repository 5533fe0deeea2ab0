"""Feed the readers bytes that coverage guides: `python tests/data/fuzz_readers.py -runs=100000`.

The first byte of an input says which reader it is for. Any end but a result or the documented errors is
a crash, which libFuzzer writes to a file. Arguments are libFuzzer's. Needs atheris (Linux).
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import atheris
import jax  # noqa: F401  Outside of the instrumented imports: it is large.
import numpy as np

with atheris.instrument_imports(include=["flatrank.data", "flatrank.completion._models"]):
    from flatrank import TripletCompleter, load_model, save_model
    from flatrank.data import read_measurements, read_pairs, read_table, write_columns
    from flatrank.entries import LongForm

LONG = LongForm("user", "item", "rating")
READERS = {
    0: (".csv", read_table),
    1: (".csv", lambda path: read_table(path, LONG)),
    2: (".tsv", lambda path: read_table(path, LONG, "SELECT * FROM input WHERE rating > 0")),
    3: (".parquet", lambda path: read_table(path, LONG)),
    4: (".npy", read_table),
    5: (".npz", read_table),
    6: (".sqlite", lambda path: read_table(path, LONG)),
    7: (".safetensors", load_model),
    8: (".npz", read_measurements),
    9: (".csv", lambda path: read_pairs(path, {"user": np.array(["a"]), "item": np.array([1])})),
}


def seeds(folder: Path) -> None:
    """One valid file for each reader."""
    table = {
        "user": np.array(["a", "a", "b"], object),
        "item": np.array([1, 2, 1]),
        "rating": np.ones(3),
    }
    write_columns(folder / "long.csv", table)
    write_columns(folder / "long.tsv", table)
    write_columns(folder / "long.parquet", table)
    np.savetxt(folder / "wide.csv", np.eye(2), delimiter=",")
    np.save(folder / "wide.npy", np.eye(2))
    np.savez(folder / "wide.npz", np.eye(2))
    np.savez(folder / "outer.npz", left=np.eye(2), right=np.eye(2))
    save_model(folder / "model.safetensors", TripletCompleter().fit(table))
    files = ["wide.csv", "long.csv", "long.tsv", "long.parquet", "wide.npy", "wide.npz", None]
    for kind, name in enumerate([*files, "model.safetensors", "outer.npz", "long.csv"]):
        content = (folder / name).read_bytes() if name else b"SQLite format 3\0"
        (folder / f"seed-{kind}").write_bytes(bytes([kind]) + content)
        if name and kind != 1:
            (folder / name).unlink()


def main() -> None:
    """Fuzz in a temporary folder."""
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as folder:
        seeds(Path(corpus))

        def read_one(content: bytes) -> None:
            if not content:
                return
            suffix, reader = READERS[content[0] % len(READERS)]
            path = Path(folder) / f"x{suffix}"
            path.write_bytes(content[1:])
            with contextlib.suppress(ValueError, MemoryError):
                reader(path)
            assert os.listdir(folder) == [path.name], "a reader left something"
            path.unlink()

        atheris.Setup([*sys.argv, corpus], read_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
