"""Reading MNIST and CIFAR-10 from tiny files in their real formats."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from adaptive_lr.study.errors import StudyError
from experiments.workloads.cifar10 import CIFAR10
from experiments.workloads.mnist import MNIST
from experiments.workloads.torchvision_files import read_cifar_batch, read_idx

EXECUTED = []
"""What the malicious pickle of a test would append to."""


def idx(values: NDArray[np.uint8]) -> bytes:
    """An IDX file, byte by byte."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes strings and bytes as Python 2 wrote its `str`, which is how CIFAR-10 was written."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def _string(self, text: str | bytes) -> None:
        data = text.encode("latin1") if isinstance(text, str) else text
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]))
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)))
        self.write(data)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = _string


def python2_pickle(content: Any) -> bytes:
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def cifar(images: NDArray[np.uint8], labels: list[int]) -> bytes:
    names = [f"image_{i}.png" for i in range(len(labels))]
    return python2_pickle({"batch_label": "testing", "labels": labels, "data": images, "filenames": names})


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.booleans())
def test_idx_files_are_read_packed_or_not(tmp_path: Path, shape: list[int], packed: bool) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    for old in tmp_path.iterdir():
        old.unlink()
    path = tmp_path / "images-idx3-ubyte"
    if packed:
        (tmp_path / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(values)))
    else:
        path.write_bytes(idx(values))
    np.testing.assert_array_equal(read_idx(path), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x00\x00\x08\x03\x00\x00", "not an IDX file"),
        (b"<html>", "not an IDX file"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00\x00\x00\x00", "not an IDX file of unsigned bytes"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], "header says 6 values, it has 5"),
        (idx(np.zeros((2, 3), np.uint8)) + b"\x00", "header says 6 values, it has 7"),
    ],
)
def test_a_wrong_idx_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=message):
        read_idx(path)


def test_a_truncated_gzip_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(gzip.compress(idx(np.zeros((2, 3), np.uint8)))[:-9])
    with pytest.raises(StudyError, match="is damaged"):
        read_idx(tmp_path / "file")


def test_cifar_batches_are_read_as_channels_rows_columns(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3072)).astype(np.uint8)
    (tmp_path / "data_batch_1").write_bytes(cifar(images, [3, 0, 9, 1]))
    read, classes = read_cifar_batch(tmp_path / "data_batch_1")
    assert classes.tolist() == [3, 0, 9, 1]
    # The format: 1024 red values, row by row, then green, then blue.
    assert read[2, 1, 5, 7] == images[2, 1024 + 5 * 32 + 7]


class _Malicious:
    def __reduce__(self) -> Any:
        return EXECUTED.append, ("run",)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    for content in (pickle.dumps({"data": eval}), b"cos\nsystem\n(S'true'\ntR.", pickle.dumps(_Malicious())):
        path.write_bytes(content)
        with pytest.raises(StudyError, match="it names"):
            read_cifar_batch(path)
    assert EXECUTED == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a CIFAR-10 batch"),
        (python2_pickle([1, 2]), "`data` must be"),
        (python2_pickle({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}), "`data` must be"),
        (python2_pickle({"data": np.zeros((2, 3072)), "labels": [0, 1]}), "`data` must be"),
        (python2_pickle({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}), "`labels` must be a list of 2"),
    ],
)
def test_a_wrong_cifar_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=message):
        read_cifar_batch(path)


@pytest.mark.parametrize("make", [MNIST, CIFAR10])
def test_missing_files_are_named_with_the_way_to_set_their_folder(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTIVE_LR_DATA", str(tmp_path))
    with pytest.raises(StudyError, match=r"does not exist.*set ADAPTIVE_LR_DATA to torchvision's `root`") as caught:
        make()
    assert str(tmp_path) in str(caught.value)


def train_a_little(workload: Any) -> tuple[float, float]:
    torch.manual_seed(0)
    model = workload.build_model(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def loss() -> float:
        model.eval()
        with torch.no_grad():
            return float(workload.evaluate(model, "test").loss)

    before = loss()
    model.train()
    for batch in islice(workload.batches(0), 30):
        optimizer.zero_grad()
        workload.loss(model, batch).backward()
        optimizer.step()
    return before, loss()


def test_mnist_trains_from_tiny_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, number in (("train", 240), ("t10k", 40)):
        classes = random.integers(0, 10, number).astype(np.uint8)
        images = random.integers(0, 50, (number, 28, 28)).astype(np.uint8)
        images[np.arange(number), classes] += 200  # a bright row that says which class it is
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(classes))
    monkeypatch.setenv("ADAPTIVE_LR_DATA", str(tmp_path))
    workload = MNIST()
    assert [len(part[0]) for part in (workload.train, *workload.splits.values())] == [220, 20, 40]
    assert workload.train[0].mean().item() == pytest.approx(0.0, abs=1e-5)
    before, after = train_a_little(workload)
    assert after < 0.5 * before


def test_cifar10_trains_from_tiny_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        classes = random.integers(0, 3, 40)
        images = random.integers(0, 50, (40, 3, 1024)).astype(np.uint8)
        images[np.arange(40), classes] += 100  # the colour says which class it is
        (folder / name).write_bytes(cifar(images.reshape(40, 3072), classes.tolist()))
    monkeypatch.setenv("ADAPTIVE_LR_DATA", str(tmp_path))
    workload = CIFAR10()
    assert [len(part[0]) for part in (workload.train, *workload.splits.values())] == [180, 20, 40]
    before, after = train_a_little(workload)
    assert after < 0.5 * before
