"""NumPy's files: whatever is wrong with one ends in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def numpy_reads(path: Path) -> Iterator[None]:
    """Turn any error of NumPy about the file that it reads in this block into a ValueError.

    It lets through those of zipfile, zlib, Python's tokenizer and parser, with which it reads.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise ValueError(
                f"{path} is not a readable {path.suffix} file: it holds Python objects, not numbers; "
                "save it with dtype float."
            ) from error
        told = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path} is not a readable {path.suffix} file ({told}): write it again."
        ) from error
