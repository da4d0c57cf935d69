"""MNIST and CIFAR-10 as torchvision leaves them on disk, read without torchvision. Nothing is downloaded."""

from __future__ import annotations

import gzip
import os
import pickle
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from adaptive_lr.study.errors import StudyError

FOLDER_VARIABLE = "ADAPTIVE_LR_DATA"
"""Environment variable with torchvision's `root`; the folder `data` where it is not set."""

IDX_UNSIGNED_BYTE = 0x08
CIFAR_ROW = 3 * 32 * 32

_ARRAY_MAKER = np.zeros(0).__reduce__()[0]  # numpy's own; its module is called differently from version to version
_ALLOWED = {
    **dict.fromkeys(
        [("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")], _ARRAY_MAKER
    ),
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def data_folder() -> Path:
    """Where torchvision's data sets are: `ADAPTIVE_LR_DATA`, or the folder `data`."""
    return Path(os.environ.get(FOLDER_VARIABLE, "data"))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, the format of MNIST.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions, their sizes as big-endian 32-bit integers,
    then the values in C order.

    Args:
        path: of the unpacked file; if it is not there, the same with `.gz`.

    Raises:
        StudyError: there is no such file, or it is not what it should be.
    """
    packed = path.with_name(path.name + ".gz")
    try:
        content = path.read_bytes() if path.is_file() or not packed.is_file() else gzip.decompress(packed.read_bytes())
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise StudyError(f"{str(packed)!r} is damaged: {error}") from error
    num_dimensions = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * num_dimensions
    if content[:3] != bytes([0, 0, IDX_UNSIGNED_BYTE]) or not num_dimensions or len(content) < start:
        raise StudyError(f"{str(path)!r} is not an IDX file of unsigned bytes")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", num_dimensions, 4))
    if len(content) - start != prod(shape):
        raise StudyError(
            f"{str(path)!r} is damaged: its header says {prod(shape)} values, it has {len(content) - start}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles containers, strings, numbers and numpy arrays; a pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def _unpickle(file: IO[bytes]) -> Any:
    return _ArraysOnly(file, encoding="latin1").load()  # the strings are Python 2's


def read_cifar_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read one file of CIFAR-10's "python version": a pickled dict with `data` and `labels`.

    Returns:
        Images (n, 3, 32, 32) and classes (n,).

    Raises:
        StudyError: there is no such file, or it is not what it should be. A pickle that would run code is not run.
    """
    try:
        with path.open("rb") as file:
            content = _unpickle(file)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except Exception as error:  # a broken pickle may raise anything
        raise StudyError(f"{str(path)!r} is not a CIFAR-10 batch: {error}") from error
    images = content.get("data") if isinstance(content, dict) else None
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (CIFAR_ROW,):
        raise StudyError(f"{str(path)!r} is not a CIFAR-10 batch: `data` must be (n, {CIFAR_ROW}) unsigned bytes")
    if not isinstance(labels, list) or len(labels) != len(images):
        raise StudyError(f"{str(path)!r} is not a CIFAR-10 batch: `labels` must be a list of {len(images)} classes")
    return images.reshape(-1, 3, 32, 32), np.asarray(labels, dtype=np.int64)


def _missing(path: Path) -> StudyError:
    return StudyError(
        f"{str(path)!r} does not exist; this workload reads what torchvision has downloaded, and downloads nothing: "
        f"set {FOLDER_VARIABLE} to torchvision's `root`"
    )
