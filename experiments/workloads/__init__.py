"""The workloads of this project's studies, one per file, each found like any user's: by a reference.

adaptive-lr compare --workload experiments.workloads.gru:GRURows        (from the root of the repository)
"""

_PACKAGE = "experiments.workloads"

TUNING = {
    "digits-mlp": "digits",
    "digits-cnn": f"{_PACKAGE}.digits_cnn:DigitsCNN",
    "mnist1d-cnn": f"{_PACKAGE}.mnist1d:MNIST1D",
    "byte-gpt": f"{_PACKAGE}.byte_gpt:ByteGPT",
    "breast-cancer": f"{_PACKAGE}.breast_cancer:BreastCancer",
    "gru": f"{_PACKAGE}.gru:GRURows",
    "quadratic": f"{_PACKAGE}.quadratic:Quadratic",
    "rosenbrock": f"{_PACKAGE}.rosenbrock:Rosenbrock",
    "fine-tuning": f"{_PACKAGE}.fine_tuning:FineTuning",
    "deep-mlp": f"{_PACKAGE}.deep_mlp:DeepMLP",
    "raw-mlp": f"{_PACKAGE}.raw_mlp:RawMLP",
}
"""Name -> reference of the workloads that constants may be chosen on."""

SET_ASIDE = {
    "diabetes": f"{_PACKAGE}.diabetes:Diabetes",
    "wide-mlp": f"{_PACKAGE}.wide_mlp:WideMLP",
}
"""Name -> reference of the workloads run when the laws are fixed, and never while a constant is being chosen."""

ELSEWHERE = {
    "vae-digits": f"{_PACKAGE}.elsewhere.vae:DigitsVAE",
    "unet-denoiser": f"{_PACKAGE}.elsewhere.denoiser:Denoiser",
    "matrix-factorisation": f"{_PACKAGE}.elsewhere.factorisation:Ratings",
    "graph-convolution": f"{_PACKAGE}.elsewhere.graph:BlockModel",
    "realnvp-moons": f"{_PACKAGE}.elsewhere.flow:MoonsFlow",
    "pinn-oscillator": f"{_PACKAGE}.elsewhere.oscillator:Oscillator",
    "lstm-text": f"{_PACKAGE}.elsewhere.help_text:HelpText",
    "adding-tcn": f"{_PACKAGE}.elsewhere.adding:Adding",
    "wide-and-deep": f"{_PACKAGE}.elsewhere.clicks:Clicks",
    "poisson-exposure": f"{_PACKAGE}.elsewhere.claims:Claims",
}
"""Name -> reference of problems of other kinds, likewise never run while a constant is being chosen."""

SPIKES = {
    "gradient-spikes": f"{_PACKAGE}.spikes:gradient_spikes",
    "large-gradient-spikes": f"{_PACKAGE}.spikes:large_gradient_spikes",
    "corrupted-batches": f"{_PACKAGE}.spikes:corrupted_batches",
    "label-noise": f"{_PACKAGE}.spikes:label_noise",
    "adam-quadratic": f"{_PACKAGE}.adam_quadratic:AdamQuadratic",
}
"""Name -> reference of the workloads in which something goes wrong on purpose."""

MORE_SPIKES = {
    (workload, fault): f"{_PACKAGE}.more_spikes:{workload}_{fault}".replace("-", "_")
    for workload in ("digits-cnn", "gru", "mnist1d-cnn")
    for fault in ("gradient-spikes", "large-gradient-spikes", "corrupted-batches")
}
"""(workload, fault) -> reference: three of these faults elsewhere."""

ON_DISK = {
    "mnist": f"{_PACKAGE}.mnist:MNIST",
    "cifar10": f"{_PACKAGE}.cifar10:CIFAR10",
}
"""Name -> reference of the workloads whose files must be there already; see `torchvision_files`."""

ON_GPU = {
    "gpt-10m": f"{_PACKAGE}.on_gpu.gpt:LargeByteGPT",
    "resnet18": f"{_PACKAGE}.on_gpu.resnet:ResNet18",
}
"""Name -> reference of the workloads whose size asks for a GPU; they are in no record. `resnet18` needs files."""
