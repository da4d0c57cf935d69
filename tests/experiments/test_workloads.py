"""The workloads of the studies: deterministic, correctly split, right at the start, and able to learn."""

from __future__ import annotations

import hashlib
import math
import sysconfig
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch
from torch import Tensor, nn

from adaptive_lr.study.digits import Digits
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.workload import Evaluation, load_workload
from experiments import workloads
from experiments.workloads.adam_quadratic import AdamQuadratic
from experiments.workloads.breast_cancer import BreastCancer
from experiments.workloads.byte_gpt import ByteGPT
from experiments.workloads.diabetes import Diabetes
from experiments.workloads.elsewhere.adding import Adding
from experiments.workloads.elsewhere.drawing import shuffled, three_parts
from experiments.workloads.elsewhere.flow import MoonsFlow
from experiments.workloads.elsewhere.graph import BlockModel
from experiments.workloads.elsewhere.oscillator import DAMPING, OMEGA, Oscillator
from experiments.workloads.fine_tuning import FineTuning, pretrained_weights
from experiments.workloads.mnist1d import MNIST1D, generate
from experiments.workloads.quadratic import Quadratic
from experiments.workloads.raw_mlp import RawMLP
from experiments.workloads.rosenbrock import Rosenbrock

REFERENCES = {**workloads.TUNING, **workloads.SET_ASIDE, **workloads.ELSEWHERE, **workloads.SPIKES}

START = {
    "digits-mlp": math.log(10),
    "digits-cnn": math.log(10),
    "mnist1d-cnn": math.log(10),
    "byte-gpt": math.log(256),
    # Standardised inputs, weights of variance 1/90: the difference of scores has the variance 2 * 31 / 90, and the
    # loss is ln 2 + variance / 8 to second order.
    "breast-cancer": math.log(2) + 2 * 31 / 90 / 8,
    "gru": math.log(10),
    "rosenbrock": 24.2,
    "deep-mlp": math.log(10),
    "wide-mlp": math.log(10),
    "diabetes": 1.0,
    "adam-quadratic": 0.5,
    "vae-digits": 64 * math.log(2),
    "unet-denoiser": 1.0,
    "graph-convolution": math.log(6),
    "lstm-text": math.log(47),
    "wide-and-deep": math.log(2),
}
"""Loss at initialisation of a model that knows nothing: ln(classes), the variance, or the value at the start."""

NUM_PARAMETERS = {
    "digits-mlp": 26_122,
    "digits-cnn": 6_138,
    "mnist1d-cnn": 5_210,
    "byte-gpt": 136_960,
    "breast-cancer": 62,
    "gru": 14_858,
    "quadratic": 100,
    "rosenbrock": 2,
    "fine-tuning": 25_477,
    "deep-mlp": 348_170,
    "raw-mlp": 26_122,
    "diabetes": 4_929,
    "wide-mlp": 60_010,
    "vae-digits": 103_760,
    "unet-denoiser": 8_401,
    "matrix-factorisation": 5_851,
    "graph-convolution": 310,
    "realnvp-moons": 7_116,
    "pinn-oscillator": 1_153,
    "lstm-text": 27_223,
    "adding-tcn": 3_265,
    "wide-and-deep": 10_842,
    "poisson-exposure": 3_025,
}


def build(workload: Any, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = workload.build_model(seed)
    return model


def evaluate(workload: Any, model: nn.Module, split: str = "validation") -> Evaluation:
    model.eval()
    with torch.no_grad():
        result: Evaluation = workload.evaluate(model, split)
    model.train()
    return result


def tensors(batch: Any) -> list[Tensor]:
    """All tensors of a batch, whatever its shape."""
    if isinstance(batch, Tensor):
        return [batch]
    return [found for part in batch if not isinstance(part, int) for found in tensors(part)]


def train_on(workload: Any, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> list[float]:
    optimizer.zero_grad()
    loss = workload.loss(model, batch)
    loss.backward()
    optimizer.step()
    return [loss.item()]


def train(workload: Any, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    return [x for batch in islice(workload.batches(0), steps) for x in train_on(workload, model, optimizer, batch)]


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
def test_a_workload_is_found_and_accepted_like_any_users(reference: str) -> None:
    assert check_workload(reference) is load_workload(reference)


def test_names_are_unique_and_the_set_aside_workloads_are_not_tuned_on() -> None:
    assert len(workloads.SET_ASIDE) == 2
    assert not {*workloads.SET_ASIDE, *workloads.ELSEWHERE} & workloads.TUNING.keys()
    assert not workloads.SET_ASIDE.keys() & workloads.ELSEWHERE.keys()
    own = {name: load_workload(reference).name for name, reference in REFERENCES.items()}
    # Only disturbed workloads share a name, and so their seeds, with the one they disturb.
    assert {key for key, name in own.items() if key != name} == {
        "digits-mlp", "gradient-spikes", "large-gradient-spikes", "corrupted-batches", "label-noise",
    }  # fmt: skip


@pytest.mark.parametrize("name", REFERENCES)
def test_the_readme_describes_every_workload(name: str) -> None:
    readme = Path(workloads.__file__).parents[1] / "README.md"
    assert f"| {name} |" in readme.read_text()


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
def test_equal_seeds_give_equal_weights_and_batches_and_other_seeds_other_batches(reference: str) -> None:
    workload = load_workload(reference)

    def run(seed: int) -> tuple[list[Tensor], list[Tensor]]:
        batches = [found for batch in islice(workload.batches(seed), 3) for found in tensors(batch)]
        return [p.detach() for p in build(workload, seed).parameters()], batches

    (weights, batches), (again, batches_again), (others, other_batches) = run(1), run(1), run(2)
    assert all(map(torch.equal, weights, again))
    assert all(map(torch.equal, batches, batches_again))
    assert not all(map(torch.equal, weights, others))
    noiseless = isinstance(workload, AdamQuadratic | BlockModel)  # always the same batch
    assert all(map(torch.equal, batches, other_batches)) == noiseless


@pytest.mark.parametrize("name", START)
def test_the_loss_at_initialisation_is_that_of_a_model_that_knows_nothing(name: str) -> None:
    workload = load_workload(REFERENCES[name])
    losses = [evaluate(workload, build(workload, seed)).loss for seed in range(10)]
    # 15 %: scores are not exactly equal at the start, and ten draws are few.
    assert np.mean(losses) == pytest.approx(START[name], rel=0.15)


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_the_number_of_parameters_is_the_documented_one(name: str) -> None:
    workload = load_workload(REFERENCES[name])
    number = sum(p.numel() for p in build(workload).parameters())
    assert number == NUM_PARAMETERS[name]
    if number > 1000:
        assert f"{number:,} parameters" in " ".join((type(workload).__doc__ or "").split())


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
def test_a_few_steps_lower_the_validation_loss(reference: str) -> None:
    workload = load_workload(reference)
    model = build(workload)
    before = evaluate(workload, model).loss
    train(workload, model, torch.optim.AdamW(model.parameters(), lr=3e-3), 40)
    after = evaluate(workload, model)
    assert after.loss < before
    assert after.accuracy is None or 0.0 <= after.accuracy <= 1.0


@pytest.mark.parametrize("make", [BreastCancer, Diabetes, MNIST1D, RawMLP])
def test_no_example_is_in_two_parts_and_none_is_lost(make: Any) -> None:
    workload = make()
    parts = [workload.train, workload.splits["validation"], workload.splits["test"]]
    rows = [{row.numpy().tobytes() for row in inputs} for inputs, _ in parts]
    assert sum(len(inputs) for inputs, _ in parts) == {
        BreastCancer: 569, Diabetes: 442, MNIST1D: 5000, RawMLP: 1797,
    }[make]  # fmt: skip
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]


@pytest.mark.parametrize("make", [BreastCancer, RawMLP])
def test_every_part_has_the_same_shares_of_the_classes(make: Any) -> None:
    workload = make()
    num_classes = int(workload.train[1].max()) + 1
    shares = [
        torch.bincount(classes, minlength=num_classes) / len(classes)
        for _, classes in (workload.train, *workload.splits.values())
    ]
    # Whole examples: a share is off by at most one example of the smallest part.
    smallest = min(len(classes) for _, classes in workload.splits.values())
    assert all((share - shares[0]).abs().max() <= 1.0 / smallest for share in shares)


def test_inputs_and_targets_are_standardised_by_the_training_part() -> None:
    for inputs, _ in (BreastCancer().train, Diabetes().train):
        torch.testing.assert_close(inputs.mean(dim=0), torch.zeros(inputs.shape[1]), atol=1e-5, rtol=0.0)
        torch.testing.assert_close(inputs.std(dim=0, correction=0), torch.ones(inputs.shape[1]))
    _, progression = Diabetes().train
    assert progression.var(correction=0).item() == pytest.approx(1.0, rel=1e-5)


def test_an_epoch_shows_every_example_at_most_once() -> None:
    workload = BreastCancer()
    epoch = len(workload.train[0]) // workload.batch_size
    seen = torch.cat([inputs for inputs, _ in islice(workload.batches(0), epoch)])
    assert len(seen) == epoch * workload.batch_size
    assert len({row.numpy().tobytes() for row in seen}) == len(seen)


def test_raw_pixels_are_unscaled() -> None:
    workload = RawMLP()
    pixels, _ = workload.train
    assert (pixels.min(), pixels.max()) == (0.0, 160.0)
    assert evaluate(workload, build(workload)).loss > 2 * math.log(10)


def test_mnist1d_is_the_published_data() -> None:
    """The first and last values and classes of the file that the authors published."""
    signals, classes = generate()
    assert signals.shape == (5000, 40)
    np.testing.assert_allclose(signals[0, :4], [-0.33200567, -0.47191037, -0.77869708, -1.00974083], atol=1e-8)
    np.testing.assert_allclose(signals[-1, -3:], [0.65987565, 0.87773435, 1.19315184], atol=1e-8)
    assert classes[:8].tolist() == [2, 6, 4, 5, 6, 6, 6, 0]
    assert classes[-5:].tolist() == [2, 5, 9, 6, 4]
    assert np.bincount(classes).tolist() == [500] * 10
    assert (signals.mean(), signals.std()) == pytest.approx((0.0, 1.0), abs=1e-12)


@pytest.fixture(scope="module")
def gpt() -> ByteGPT:
    return ByteGPT()


class TestByteGPT:
    def test_the_recorded_hash_is_that_of_the_files_on_disk(self, gpt: ByteGPT) -> None:
        digest = hashlib.sha256()
        for file in sorted(Path(sysconfig.get_paths()["stdlib"]).iterdir()):
            if file.suffix == ".py" and not file.name.startswith("_sysconfigdata"):
                digest.update(file.read_bytes())
        assert gpt.identity == digest.hexdigest()
        assert gpt.identity in gpt.description

    def test_windows_come_with_the_bytes_that_follow(self, gpt: ByteGPT) -> None:
        for text, following in (next(gpt.batches(0)), gpt.splits["validation"]):
            assert text.shape[1] == following.shape[1] == 64
            assert torch.equal(text[:, 1:], following[:, :-1])

    def test_the_model_does_not_see_the_future(self, gpt: ByteGPT) -> None:
        model = build(gpt)
        text = next(gpt.batches(0))[0][:2]
        changed = text.clone()
        changed[:, 40] = (changed[:, 40] + 1) % 256
        with torch.no_grad():
            before, after = model(text), model(changed)
        torch.testing.assert_close(before[:, :40], after[:, :40])
        assert not torch.equal(before[:, 40:], after[:, 40:])

    def test_no_window_of_an_evaluation_is_in_the_training_text(self, gpt: ByteGPT) -> None:
        training = gpt.train.numpy().tobytes()
        texts = {split: [bytes(row.tolist()) for row in gpt.splits[split][0]] for split in ("validation", "test")}
        shared = [text for own in texts.values() for text in own if len(set(text)) > 20 and text in training]
        # Files are in one part only; boilerplate that several modules share is all that may be found again.
        assert len(shared) < 0.05 * 2 * gpt.num_windows


class TestObjectives:
    def test_the_quadratic_has_the_stated_eigenvalues_and_its_optimum_at_zero(self) -> None:
        workload = Quadratic()
        eigenvalues = torch.linalg.eigvalsh((workload.root @ workload.root).double())
        assert (eigenvalues[0].item(), eigenvalues[-1].item()) == pytest.approx((1e-3, 1.0), rel=1e-3)
        assert workload.value(torch.zeros(100)) == 0.0

    def test_a_quadratic_run_begins_at_half_the_trace_on_average(self) -> None:
        workload = Quadratic()
        values = [evaluate(workload, build(workload, seed)).loss for seed in range(400)]
        half_trace = 0.5 * workload.eigenvalues.sum().item()
        deviation = math.sqrt(0.5 * workload.eigenvalues.square().sum().item() / len(values))  # of ½ Σ λ z²
        assert np.mean(values) == pytest.approx(half_trace, abs=4 * deviation)

    def test_the_gradient_noise_of_the_quadratic_has_the_covariance_of_its_curvature(self) -> None:
        workload = Quadratic()
        noise = torch.stack(list(islice(workload.batches(0), 4000))).double()
        curvature = (workload.root @ workload.root).double()
        whitened = torch.linalg.solve(workload.root.double(), noise.T) / workload.noise_scale
        spectrum = torch.linalg.eigvalsh(whitened @ whitened.T / len(noise))
        edge = math.sqrt(100 / 4000)  # Marchenko & Pastur: where the eigenvalues of a sample covariance of I end
        assert (1 - edge) ** 2 * 0.9 < spectrum[0] < spectrum[-1] < (1 + edge) ** 2 * 1.1
        assert curvature.trace().item() == pytest.approx(workload.eigenvalues.sum().item(), rel=1e-4)

    def test_rosenbrock_is_scipys(self) -> None:
        workload = Rosenbrock()
        for point in ([-1.2, 1.0], [0.3, -0.7], [1.0, 1.0]):
            position = torch.tensor(point, dtype=torch.float64, requires_grad=True)
            value = workload.value(position)
            (gradient,) = torch.autograd.grad(value, position)
            assert value.item() == pytest.approx(scipy.optimize.rosen(point), abs=1e-12)
            np.testing.assert_allclose(gradient.numpy(), scipy.optimize.rosen_der(np.array(point)), atol=1e-10)

    def test_a_batch_adds_its_noise_to_the_gradient_and_nothing_else(self) -> None:
        workload = Rosenbrock()
        model = build(workload)
        noise = next(workload.batches(0))
        workload.loss(model, noise).backward()  # type: ignore[no-untyped-call]
        position = model.get_parameter("position")
        exact = torch.autograd.grad(workload.value(position), position)[0]
        torch.testing.assert_close(position.grad, exact + noise)

    def test_adam_spikes_on_a_parabola_where_gradient_descent_does_not(self) -> None:
        workload = AdamQuadratic()
        model = build(workload)
        lr, (beta1, beta2) = 1.0, (0.9, 0.999)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(beta1, beta2), weight_decay=0.0)
        losses = np.array(train(workload, model, optimizer, 2600))
        bottom = int(losses.argmin())
        assert bottom > 500
        assert losses[bottom] < 1e-20
        assert losses[bottom:].max() > 1e-3

        descended = build(workload)
        optimizer = torch.optim.SGD(descended.parameters(), lr=lr / 2)
        assert np.all(np.diff(train(workload, descended, optimizer, 500)) < 0.0)

    def test_the_spike_comes_after_the_preconditioned_curvature_is_unstable(self) -> None:
        """Heavy-ball with the step lr / sqrt(v) is unstable on curvature 1 from 2 (1 + beta1) / (1 - beta1) on."""
        workload = AdamQuadratic()
        model = build(workload)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.999), weight_decay=0.0)
        losses, crossed = [], None
        for step, batch in enumerate(islice(workload.batches(0), 2600)):
            losses += train_on(workload, model, optimizer, batch)
            (state,) = optimizer.state.values()
            second_moment = state["exp_avg_sq"].item() / (1 - 0.999 ** (step + 1))
            if crossed is None and 1.0 / math.sqrt(second_moment) > 2 * 1.9 / 0.1:
                crossed = step
        assert crossed is not None
        # Over windows of 50 steps, as single losses touch zero whenever the parameter changes its sign.
        envelope = np.lib.stride_tricks.sliding_window_view(losses, 50).max(axis=1)
        assert abs(int(envelope.argmin()) - crossed) <= 50
        assert max(losses[crossed:]) > 1e9 * losses[crossed]


class TestElsewhere:
    def test_a_flow_is_a_density(self) -> None:
        """It integrates to 1, whatever its weights."""
        model = build(MoonsFlow())
        for parameter in model.parameters():
            parameter.data.mul_(1.5)
        side = torch.linspace(-12.0, 12.0, 601)
        points = torch.cartesian_prod(side, side)
        with torch.no_grad():
            density = (-model(points).double()).exp()
        assert float(density.sum()) * 0.04**2 == pytest.approx(1.0, abs=0.01)

    def test_the_oscillator_is_held_to_its_equation(self) -> None:
        """Scipy's integration of it is the exact solution that errors are taken from."""
        workload = Oscillator()
        times = workload.times[:, 0].double().numpy()
        solved = scipy.integrate.solve_ivp(
            lambda _, y: [y[1], -2.0 * DAMPING * OMEGA * y[1] - OMEGA**2 * y[0]], (0.0, times[-1]), [1.0, 0.0],
            t_eval=times, rtol=1e-9, atol=1e-12,
        )  # fmt: skip
        np.testing.assert_allclose(workload.exact[:, 0].numpy(), solved.y[0], atol=1e-5)

    def test_sums_are_of_the_two_marked_values_and_vary_as_stated(self) -> None:
        workload = Adding()
        sequences, sums = workload.splits["test"]
        assert torch.equal(sequences[:, 1].sum(1), torch.full((1000,), 2.0))
        assert torch.equal(sequences[:, 1, :8].sum(1), torch.ones(1000))
        torch.testing.assert_close((sequences[:, 0] * sequences[:, 1]).sum(1), sums)
        zero = workload.loss(lambda x: torch.zeros(len(x)), (sequences, sums))  # type: ignore[arg-type]
        assert float(zero) == pytest.approx(1.0, abs=0.1)

    def test_the_graph_is_normalised_and_its_parts_are_apart(self) -> None:
        workload = BlockModel()
        adjacency = workload.adjacency.to_dense().double()
        torch.testing.assert_close(adjacency, adjacency.T)
        largest = torch.linalg.eigvalsh(adjacency[:, :])[-1]
        assert float(largest) == pytest.approx(1.0, abs=1e-5)  # of D^-1/2 (A + I) D^-1/2
        nodes = torch.cat([workload.train, *workload.splits.values()])
        assert sorted(nodes.tolist()) == list(range(1800))

    def test_an_epoch_shows_every_example_once_and_parts_are_in_order(self) -> None:
        epoch = torch.cat(list(islice(shuffled(10, 3, seed=0), 3)))
        assert len(set(epoch.tolist())) == 9
        train, splits = three_parts([torch.arange(10), torch.arange(10) * 2], 6, 3)
        assert [column.tolist() for column in train] == [[0, 1, 2, 3, 4, 5], [0, 2, 4, 6, 8, 10]]
        assert {name: part[0].tolist() for name, part in splits.items()} == {"validation": [6, 7, 8], "test": [9]}


class TestFineTuning:
    def test_runs_share_the_body_and_differ_in_the_head(self) -> None:
        workload = FineTuning()
        first, second = build(workload, 1).state_dict(), build(workload, 2).state_dict()
        differing = {name for name in first if not torch.equal(first[name], second[name])}
        assert differing == {"4.weight", "4.bias"}

    def test_the_network_that_runs_begin_from_knows_the_other_classes(self) -> None:
        network = build(FineTuning())
        network.load_state_dict(pretrained_weights())
        images, classes = Digits().splits["test"]
        known = classes < 5
        accuracy = (network(images[known]).argmax(dim=1) == classes[known]).double().mean()
        assert accuracy > 0.95

    def test_it_trains_on_five_classes_of_its_own(self) -> None:
        workload = FineTuning()
        for _, classes in (workload.train, *workload.splits.values()):
            assert classes.unique().tolist() == [0, 1, 2, 3, 4]
        assert len(workload.train[0]) == 537

    def test_pretraining_leaves_the_random_state_alone(self) -> None:
        before = torch.random.get_rng_state()
        pretrained_weights.cache_clear()
        first = pretrained_weights()
        assert torch.equal(torch.random.get_rng_state(), before)
        pretrained_weights.cache_clear()
        torch.manual_seed(7)
        assert all(torch.equal(first[name], value) for name, value in pretrained_weights().items())

    def test_early_layers_learn_more_slowly(self) -> None:
        workload = FineTuning()
        model = build(workload)
        groups = workload.parameter_groups(model, 0.1)
        assert [group["lr"] for group in groups] == pytest.approx([0.1 / 2.6**2, 0.1 / 2.6, 0.1])
        assert sum(p.numel() for group in groups for p in group["params"]) == 25_477
        before = evaluate(workload, model).loss
        train(workload, model, torch.optim.SGD(groups, lr=0.1, momentum=0.9), 40)
        assert evaluate(workload, model).loss < 0.5 * before
