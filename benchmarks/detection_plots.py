"""The plots of `docs/detection.md`, as SVG in `docs/plots/`.

Drawn from `build/detection_traces.json` (`benchmarks.detection_traces`), `build/fleet_learning.json`
(`benchmarks.fleet_learning`) and the figures below, which stand in the tables of that document. It needs matplotlib,
which only the environment of the benchmarks has; `make detection-plots` does both halves. The same input gives the same
bytes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#7a7a7a"
"""Of Okabe and Ito's palette, told apart with any kind of colour vision."""
STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "wardwatch",
    "svg.fonttype": "path",
}

Bars = tuple[str, float, float, tuple[tuple[str, float], ...]]
"""Title, bar, left end of the axis; figures, ours first."""
RESULTS: tuple[Bars, ...] = (
    ("Usage drop: F1, mean of seeds 1-4", 0.87, 0.4,
     (("ours", 0.899), ("DropGlr", 0.732), ("cusum", 0.638), ("ADWIN (River)", 0.589))),
    ("Failures, azure_jitter: AP, mean of seeds 1-3", 0.93, 0.2,
     (("ours", 0.944), ("ARF (River)", 0.614), ("logistic (River)", 0.417), ("naive Bayes (River)", 0.406))),
    ("Failures, cmapss1 and 3: mean AP", 0.985, 0.7,
     (("ours", 0.9879), ("logistic (River)", 0.9745), ("boosting in batch", 0.9715), ("ARF (River)", 0.9415))),
    ("Sensor anomaly: NAB, standard profile", 75.0, 20.0,
     (("ours", 81.6), ("ARTime", 78.2), ("contextOSE", 74.1), ("HTM", 71.2), ("rolling z (River)", 35.9))),
    ("Change points: F1", 0.72, 0.5,
     (("ours", 0.764), ("binseg (offline)", 0.678), ("never reports", 0.675), ("ADWIN (River)", 0.618))),
    ("Change points: cover", 0.69, 0.5,
     (("ours", 0.713), ("binseg (offline)", 0.668), ("ADWIN (River)", 0.611), ("never reports", 0.588))),
)  # fmt: skip

STEPS: dict[str, tuple[tuple[str, float], ...]] = {
    "Usage drop (F1)": (
        ("clipped likelihood ratio", 0.851), ("filter, first guess", 0.61), ("hours never fed", 0.738),
        ("more spells", 0.792), ("a day's evidence bounded", 0.841), ("slower level", 0.867),
        ("spread learnt faster", 0.878), ("rest days by their hours", 0.886), ("shared covariance, rises", 0.888),
        ("hazard 1/100", 0.891), ("weekdays begin wide", 0.892), ("hours learnt on bad days", 0.902),
    ),
    "Failures, azure_jitter, seed 1 (AP)": (
        ("trees, 6-12 h bins", 0.722), ("newest of a kind", 0.916), ("small leaves, fine bins", 0.931),
        ("probable negatives kept", 0.953), ("blend of experts", 0.950), ("with fading", 0.955),
        ("standing by failures, as landed", 0.954),
    ),
    "Sensor anomaly (NAB)": (
        ("one view, each row", 46.0), ("once in 100 values", 64.0), ("five views", 69.8), ("Bayesian tail", 71.4),
        ("season of the day", 72.2), ("root mean square", 76.0), ("fatigue, four values", 77.5),
        ("season of the week", 79.7), ("standing events", 82.1), ("whole evidence, as landed", 81.6),
    ),
    "Change points (F1)": (
        ("two levels", 0.637), ("level and trend", 0.645), ("level and AR(1)", 0.713), ("shared variance", 0.688),
        ("forecast by what was before", 0.714), ("half the drift allowed", 0.715), ("a quarter noise allowed", 0.723),
        ("middle of the plateau", 0.755), ("steady variance", 0.772), ("shorter window", 0.768),
        ("noise before the onset", 0.764),
    ),
}  # fmt: skip


def _shown(value: float) -> str:
    return f"{value:.3f}" if value < 2 else f"{value:.1f}"


def results() -> Figure:
    """Ours against peers, and the bar."""
    figure, places = plt.subplots(3, 2, figsize=(8, 5.4), layout="constrained")
    for axes, (title, bar, left, figures) in zip(places.flat, RESULTS, strict=True):
        names, values = zip(*reversed(figures), strict=True)
        axes.barh(names, values, color=[BLUE if name == "ours" else GREY for name in names], height=0.7)
        for place, value in enumerate(values):
            axes.text(left, place, f"  {_shown(value)}", va="center", fontsize=7, color="white")
        axes.axvline(bar, color=RED, linestyle="--", linewidth=1.2)
        axes.text(bar, len(values) - 0.45, f"bar {bar:g}", color=RED, ha="center", va="bottom", fontsize=7)
        axes.set_title(title, pad=12)
        axes.set_xlim(left, max(values) + 0.03 * (max(values) - left))
        axes.tick_params(axis="y", length=0)
    figure.supxlabel("axes do not begin at 0", fontsize=7)
    return figure


def steps() -> Figure:
    """What each step brought."""
    figure, places = plt.subplots(2, 2, figsize=(8, 5.6), layout="constrained")
    for axes, (title, each) in zip(places.flat, STEPS.items(), strict=True):
        names, values = zip(*each, strict=True)
        axes.plot(values, range(len(values)), color=GREY, linewidth=1, zorder=1)
        axes.scatter(values, range(len(values)), c=[BLUE] * (len(values) - 1) + [RED], s=18, zorder=2)
        for place, value in enumerate(values):
            axes.annotate(_shown(value), (value, place), (5, 0), textcoords="offset points", va="center", fontsize=6.5)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_title(title)
    return figure


def usage(traces: list[dict[str, Any]]) -> Figure:
    """Use, what was expected, and the belief, about a step, a ramp and a stop."""
    first, onset, holiday = 63, 98, 70
    figure, places = plt.subplots(2, 3, figsize=(8, 3.8), sharex=True, sharey="row", layout="constrained",
                                  height_ratios=(3, 2))  # fmt: skip
    for column, trace in enumerate(traces):
        above, below = places[0][column], places[1][column]
        days = range(first - onset, len(trace["observed"]) - onset)
        above.bar(days, trace["observed"][first:], width=0.9, color=GREY, label="uses a day")
        above.plot(days, trace["expected"][first:], color=BLUE, linewidth=1.1, label="expected")
        told = trace["first"]
        above.set_title(f"{trace['name']}: told on day {told['told_day'] - onset + 1}")
        below.plot(days, trace["belief"][first:], color=RED, linewidth=1.3)
        below.axhline(0.5, color=GREY, linewidth=0.8, linestyle="--")
        for axes in (above, below):
            axes.axvline(-0.5, color="black", linewidth=0.8, linestyle=":")
            axes.axvspan(holiday - onset - 0.5, holiday - onset + 2.5, color=ORANGE, alpha=0.25, linewidth=0)
        below.set_xlabel("days since the onset")
    places[0][0].set_ylabel("uses a day")
    places[1][0].set_ylabel("belief")
    places[0][0].legend(loc="upper center", fontsize=7, ncols=2)
    places[0][0].set_ylim(0, 45)
    return figure


def gauge(trace: dict[str, Any]) -> Figure:
    """A gauge's values with what was expected of them, and the scores."""
    first = next(place for place, day in enumerate(trace["day"]) if day >= 21)
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 3.8), sharex=True, layout="constrained",
                                          height_ratios=(3, 2))  # fmt: skip
    days = trace["day"][first:]
    above.plot(days, trace["value"][first:], color=GREY, linewidth=0.8, label="gauge, each half hour (°C)")
    above.plot(days, trace["expected"][first:], color=BLUE, linewidth=1, label="expected")
    for number, shift in enumerate(trace["shifts"]):
        label = "level before and after, as told" if number == 0 else None
        onset = shift["onset_day"]
        above.plot((onset - 7, onset, onset, days[-1]), (*[shift["before"]] * 2, *[shift["after"]] * 2), color=GREEN,
                   linewidth=1.3, label=label)  # fmt: skip
        above.axvline(shift["told_day"], color=GREEN, linewidth=1, linestyle="--",
                      label="told of the shift" if number == 0 else None)  # fmt: skip
    above.legend(loc="upper left", fontsize=7, ncols=2)
    above.set_ylabel("°C")
    below.plot(days, trace["score"][first:], color=RED, linewidth=1)
    below.axhline(0.5, color=GREY, linewidth=0.8, linestyle="--")
    below.set_ylim(0, 1)
    below.set_ylabel("anomaly score")
    below.set_xlabel("day")
    return figure


def reliability(fleet: dict[str, Any]) -> Figure:
    """What was foretold of failures against what happened."""
    bins = [each for each in zip(fleet["judged"], fleet["foretold"], fleet["happened"], fleet["places"], strict=True)
            if each[0] >= 30]  # fmt: skip
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", width_ratios=(1, 1.1))
    foretold = [total / judged for judged, total, _, _ in bins]
    happened = [total / judged for judged, _, total, _ in bins]
    left.plot((0, 1), (0, 1), color=GREY, linewidth=0.8, linestyle="--")
    left.plot(foretold, happened, color=BLUE, linewidth=1.2, marker="o", markersize=4)
    for x, y, (_, _, _, places) in zip(foretold, happened, bins, strict=True):
        if x > 0.15:
            left.annotate(str(places), (x, y), (5, -7), textcoords="offset points", fontsize=6.5)
    left.set(xlim=(0, 1), ylim=(0, 1), xlabel="foretold probability", ylabel="share that failed", aspect="equal")
    right.plot((1e-3, 1), (1e-3, 1), color=GREY, linewidth=0.8, linestyle="--")
    right.loglog(foretold, [max(each, 1e-3) for each in happened], color=BLUE, linewidth=1.2, marker="o", markersize=4)
    for x, y, (judged, _, _, _) in zip(foretold, happened, bins, strict=True):
        if x < 0.3:
            right.annotate(f"{judged:,.0f}", (x, max(y, 1e-3)), (5, -8), textcoords="offset points", fontsize=6.5)
    right.set(xlabel="the same, by logarithm; figures: judgements in the bin", xlim=(1e-3, 1.5), ylim=(1e-3, 1.5))
    left.set_title("figures: subsystems in the bin")
    return figure


def new_devices(fleet: dict[str, Any]) -> Figure:
    """How far off a new device's expected use is, alone and together."""
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    curves = {(run["partitions"], run["how"]): run["usage_error_by_day_of_life"] for run in fleet["runs"]}
    days = range(1, len(curves[1, "together"]) + 1)
    axes.plot(days, curves[16, "alone"], color=ORANGE, linewidth=4, label="16 partitions, each alone", alpha=0.7)
    axes.plot(days, curves[4, "alone"], color=RED, linewidth=1.2, linestyle="--", label="4 partitions, each alone")
    axes.plot(days, curves[16, "together"], color=BLUE, linewidth=1.6, marker="o", markersize=3,
              label="1, 4 and 16 partitions together")  # fmt: skip
    axes.set(xlabel="day of a new device's life", ylabel="|observed - expected|, in usual days", ylim=(0, None))
    axes.legend(fontsize=7)
    return figure


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "plots")
    parser.add_argument("--format", choices=("svg", "png"), default="svg", dest="kind")
    options = parser.parse_args()
    mpl.use("Agg")
    plt.rcParams.update(STYLE)
    traces = json.loads((ROOT / "build" / "detection_traces.json").read_text())
    fleet = json.loads((ROOT / "build" / "fleet_learning.json").read_text())
    figures = {
        "results": results(),
        "steps": steps(),
        "usage": usage(traces["usage"]),
        "gauge": gauge(traces["gauge"]),
        "reliability": reliability(traces["reliability"]),
        "new_devices": new_devices(fleet),
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        metadata = {"Date": None} if options.kind == "svg" else {}
        figure.savefig(options.folder / f"{name}.{options.kind}", dpi=110, metadata=metadata)


if __name__ == "__main__":
    main()
