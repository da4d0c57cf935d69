"""The table and the figure, drawn from a record and from nothing else: `python -m benchmarks.report record.json`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write(record: dict[str, Any], folder: Path, name: str) -> None:
    """Write `<name>.json`, `<name>.md` and, where matplotlib is installed, `<name>.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(record, folder, name)


def draw(record: dict[str, Any], folder: Path, name: str) -> None:
    """Write the table and the figure of a record."""
    (folder / f"{name}.md").write_text(table(record))
    try:
        import matplotlib as mpl
    except ImportError:
        print(f"no figure: matplotlib is not installed; python -m benchmarks.report {name}.json draws it elsewhere")
        return
    mpl.use("Agg")
    figure(record, folder / f"{name}.png")


def table(record: dict[str, Any]) -> str:
    """All rows as Markdown, one table a case."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    text = f"# {record['device']}\n\n{versions}. Measured read bandwidth: {record['read_bandwidth'] / 1e9:.1f} GB/s"
    text += f" (one thread). Medians of {record['turns']} turns or so, in which all ways of a case are timed in turn."
    text += " The ratio is the median over turns of the time in units of the baseline's (the row with ratio 1). What"
    text += " fits a cache is read from there: shares above 100 %.\n"
    if record["quick"]:
        text += "\nA quick run: it shows that everything runs, its figures say little.\n"
    cases: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in record["rows"]:
        cases[row["case"]].append(row)
    for case, rows in cases.items():
        text += f"\n## {case[0].upper()}{case[1:]}\n\n"
        gpu = any(row["device"] is not None for row in rows)
        heads = ["parameters", "tensors", "dtype", "threads", "way", *(("GPU", "host") if gpu else ("time",))]
        heads += ["read", "of bandwidth", "ratio", *(("ratio on the GPU",) if gpu else ())]
        text += _line(heads) + _line(["---"] * len(heads))
        text += "".join(_line(_cells(row, gpu=gpu)) for row in rows)
    return text


def _cells(row: dict[str, Any], *, gpu: bool) -> list[str]:
    times = (row["device"], row["host"]) if gpu else (row["seconds"],)
    share = row["bandwidth_share"]
    on_gpu = row.get("device_ratio")
    return [
        f"{row['parameters']:,}",
        f"{row['tensors']:,}",
        row["dtype"],
        str(row["threads"]),
        row["way"],
        *map(_time, times),
        f"{row['bytes'] / 1e6:,.4g} MB" if row["bytes"] else "",
        "" if share is None else f"{share:.0%}",
        f"{row['ratio']:.3g}",
        *(("" if on_gpu is None else f"{on_gpu:.3g}",) if gpu else ()),
    ]


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if abs(seconds) < 1e-3 else f"{seconds * 1e3:.2f} ms"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def figure(record: dict[str, Any], path: Path) -> None:
    """Time against size for each set of statistics, and what control costs in units of one norm pass."""
    from matplotlib import pyplot as plt

    rows = record["rows"]
    sets = list(dict.fromkeys(row["case"] for row in rows if row["parameters"] and "statistics" in row["case"]))
    sets = ["norm", *sets]
    bars = [row for row in rows if row["case"].startswith("control of") and row["parameters"] > 10**6]
    panels = len(sets) + bool(bars)  # a quick run leaves the large model out
    fig, grid = plt.subplots(1, panels, figsize=(4.2 * panels, 3.8), constrained_layout=True, squeeze=False)
    axes = grid[0]
    for axis, case in zip(axes, sets, strict=False):
        lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for row in rows:
            if row["case"] == case and row["tensors"] == 100 and row["dtype"] == "float32":
                lines[row["way"]].append((row["parameters"], row["seconds"] * 1e3))
        for way, points in lines.items():
            axis.plot(*zip(*sorted(points), strict=True), marker="o", label=way, linewidth=2 if way == "measure" else 1)
        axis.set(xscale="log", yscale="log", xlabel="parameters in 100 tensors", title=case)
        axis.legend(fontsize=8)
    axes[0].set_ylabel("milliseconds")
    if bars:
        labels = [f"{row['way']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}" for row in bars]
        axes[-1].barh(labels[::-1], [row["ratio"] for row in bars][::-1])
        axes[-1].axvline(1.0, color="black", linewidth=0.8)
        axes[-1].set(xlabel="time in units of one norm pass", title="control of 85M parameters")
        axes[-1].tick_params(labelsize=8)
    fig.suptitle(record["device"])
    fig.savefig(path, dpi=120)
    plt.close(fig)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        file = Path(argument)
        draw(json.loads(file.read_text()), file.parent, file.stem)
