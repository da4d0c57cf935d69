"""Finding workloads, refusing broken ones, and the built-in digits."""

from __future__ import annotations

import sys
from itertools import islice

import pytest
import torch

from adaptive_lr.study import StudyError, Workload
from adaptive_lr.study.digits import Digits
from adaptive_lr.study.run import Run, execute
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.workload import fingerprint, load_workload, title_of


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


def test_digits_are_split_once_and_stratified(digits: Digits) -> None:
    """1077, 360 and 360 images, the same in every process, with every class at its share of a tenth."""
    again = Digits()
    images, _ = digits.train
    assert (len(images), *(len(split[0]) for split in digits.splits.values())) == (1077, 360, 360)
    assert torch.equal(images, again.train[0])
    for _, labels in digits.splits.values():
        assert (torch.bincount(labels).double() / len(labels)).sub(0.1).abs().max() < 0.005
    assert len({tuple(image) for image in images.tolist()} & {tuple(i) for i in digits.splits["test"][0].tolist()}) == 0


def test_digits_are_standardised_by_the_training_images(digits: Digits) -> None:
    """Mean 0 and deviation 1 of every pixel that varies in training, to float32 rounding; and only there."""
    images = digits.train[0].double()
    varies = images.std(0) > 0
    assert images.mean(0).abs().max() < 1e-6
    assert (images.std(0, correction=0)[varies] - 1).abs().max() < 1e-6
    assert digits.splits["test"][0].double().mean(0).abs().max() > 1e-3


def test_digits_batches_follow_from_the_seed(digits: Digits) -> None:
    def first(seed: int) -> list[torch.Tensor]:
        return [images for images, _ in islice(digits.batches(seed), 20)]

    assert all(torch.equal(a, b) for a, b in zip(first(3), first(3), strict=True))
    assert not torch.equal(first(3)[0], first(4)[0])
    assert {len(batch) for batch in first(3)} == {64}


def test_an_epoch_of_digits_shows_no_image_twice(digits: Digits) -> None:
    images = torch.cat([images for images, _ in islice(digits.batches(0), digits.evaluation_interval)])
    assert len(torch.unique(images, dim=0)) == len(images) == 1024


@pytest.mark.parametrize(("optimizer", "peak_lr"), [("sgd", 0.03), ("adamw", 0.003)])
def test_digits_are_learned(optimizer: str, peak_lr: float) -> None:
    """At a good peak, 160 steps reach over 93 % on test images; at initialisation the loss is about ln 10."""
    result = execute(Run("digits", optimizer, "cosine", peak_lr, 0, 160))
    assert result.initial is not None
    assert result.test is not None
    assert result.initial.loss == pytest.approx(2.3026, abs=0.1)
    assert result.test.accuracy is not None
    assert result.test.accuracy > 0.93


def test_a_workload_is_found_by_name_file_or_module(tiny, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """A built-in name; a class or an instance in a file; an attribute of a module in the current folder."""
    assert load_workload("digits").name == "digits"
    assert load_workload(tiny("Tiny")).name == load_workload(tiny("instance")).name == "tiny"
    (tmp_path / "my_workload_module.py").write_text("from adaptive_lr.study.digits import Digits as Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    assert isinstance(load_workload("my_workload_module:Mine"), Workload)


@pytest.mark.parametrize(
    ("workload", "sentence"),
    [
        ("nonsense", "unknown workload 'nonsense'; known: digits"),
        ("no_such_module:Mine", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("no_such_file.py:Mine", "workload file 'no_such_file.py' does not exist"),
        (":Mine", "unknown workload"),
        ("Missing", "has no 'Missing'"),
        ("RaisesInConstructor", "cannot be loaded: FileNotFoundError: data.csv"),
        ("Incomplete", "lacks evaluation_interval, build_model, batches, loss, evaluate"),
        ("BadHorizon", "total_steps >= 1, an integer; got 0"),
        ("BadTitle", "must have as title a non-empty string or none; got None"),
        ("RaisesAtStart", "raises before its first step: RuntimeError: no such layer$"),
        ("NanAtStart", "validation loss of nan at initialisation; it must be finite"),
        ("Explodes", "training loss of nan on its first batch, before any update; it must be finite"),
        ("NoBatches", "gives no batch; batches must not end"),
        ("BareLoss", r"must return an Evaluation\(loss, accuracy or None\) from evaluate, got 0.5"),
        ("AccuracyInPercent", "accuracy of 52.0 at initialisation; it must be a share of right answers, from 0 to 1"),
        ("LossOfEach", r"must return a 0-d tensor from loss, got one of shape \(16,\)"),
    ],
)
def test_a_broken_workload_is_refused_in_one_sentence(tiny, workload: str, sentence: str) -> None:
    given = workload if ":" in workload or workload == "nonsense" else tiny(workload)
    with pytest.raises(StudyError, match=sentence) as caught:
        check_workload(given)
    assert "\n" not in str(caught.value)


def test_an_edited_workload_is_another_workload(tmp_path) -> None:
    """The fingerprint is that of the file it names, so results of the old text are not taken for the new one's."""
    text = "from adaptive_lr.study.digits import Digits\nclass Mine(Digits):\n    total_steps = {}\n"
    prints = set()
    for number in (10, 11):
        path = tmp_path / f"mine_{number}.py"
        path.write_text(text.format(number))
        prints.add(fingerprint(f"{path}:Mine"))
    assert len(prints) == 2


def test_what_a_workload_inherits_from_and_its_identity_count(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited base class in another file, and another identity, make another workload; the same text is the same."""
    monkeypatch.setattr("sys.path", [*sys.path])
    base = "from adaptive_lr.study.digits import Digits\nclass Base(Digits):\n    number = {}\n"
    mine = (
        "import importlib, pathlib\n"
        "here = pathlib.Path(__file__)\n"
        "class Mine(importlib.import_module('base_of_' + here.parent.name).Base):\n"
        "    identity = here.with_name('data').read_text()\n"
    )
    prints = {}
    for case, (number, data) in {"one": (1, "a"), "same": (1, "a"), "edited": (2, "a"), "other": (1, "b")}.items():
        folder = tmp_path / case
        folder.mkdir()
        (folder / f"base_of_{case}.py").write_text(base.format(number))
        (folder / "mine.py").write_text(mine)
        (folder / "data").write_text(data)
        prints[case] = fingerprint(f"{folder / 'mine.py'}:Mine")
    assert prints["one"] == prints["same"]
    assert len(set(prints.values())) == 3


def test_what_a_wrapper_wraps_counts(tmp_path) -> None:
    """Two wrappers of one text, around workloads of two."""
    wrapper = (
        "import importlib.util, pathlib\n"
        "from adaptive_lr.study.workload import load_workload\n"
        "class Wrapper:\n"
        "    def __init__(self):\n"
        "        self.inner = load_workload(str(pathlib.Path(__file__).with_name('inside.py')) + ':Inside')\n"
        "    def __getattr__(self, name):\n"
        "        if name == 'inner': raise AttributeError(name)\n"
        "        return getattr(self.inner, name)\n"
    )
    prints = []
    for folder, steps in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "outside.py").write_text(wrapper)
        inside = f"from adaptive_lr.study.digits import Digits\nclass Inside(Digits):\n    total_steps = {steps}\n"
        (tmp_path / folder / "inside.py").write_text(inside)
        prints.append(fingerprint(f"{tmp_path / folder / 'outside.py'}:Wrapper"))
    assert prints[0] != prints[1]


def test_a_title_is_shown_where_there_is_one(tiny) -> None:
    assert title_of(load_workload(tiny("Tiny"))) == "tiny"
    assert title_of(load_workload(tiny("Grouped"))) == "tiny, first layer at rest"
