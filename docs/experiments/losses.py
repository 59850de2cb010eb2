"""Held-out accuracy of preference losses over seeds, and packing against length buckets against plain padding.

    cargo build -p xtask
    python docs/experiments/losses.py --data harmless-base-test.jsonl.gz --out artifacts/runs/losses
    python docs/experiments/losses.py --data conversations.jsonl --out artifacts/runs/packing --packing

For each seed: SFT on the chosen replies, then DPO from it with each loss (configs/hh-rlhf.yaml: 20 % of the prompts
are held out from both). A run that is complete is not run again. Writes results.csv, results.md and an SVG figure.
`--packing` trains SFT three ways instead; its throughput counts input tokens and the time of the steps alone.

Needs Python alone. More settings for all runs: `--set sft.train.max_steps=50`.
"""

import argparse
import csv
import gzip
import json
import math
import shutil
import struct
import subprocess
import time
from pathlib import Path

LOSSES = {
    "sigmoid": [],
    "ipo": ["dpo.loss_type=ipo"],
    "robust": ["dpo.loss_type=robust", "dpo.label_smoothing=0.1"],
    "kto": ["dpo.objective=kto"],
}
WAYS = {
    "padding": ["sft.train.group_by_length=false"],
    "buckets": [],
    # Full rows of 384 tokens: 4 hold about as many as 8 conversations of hh-rlhf, so that steps are as many.
    "packing": ["sft.packing=true", "sft.train.per_device_train_batch_size=4"],
}
# 97.5th percentile of Student's t for 1, 2, … degrees of freedom.
STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]


def xtask(args, command, out, sets, *more):
    """Runs a command unless its report is there; gives the report and the seconds."""
    report, clock = out / "report.json", out / "seconds.txt"
    if not clock.exists():
        start = time.monotonic()
        words = [word for setting in [*sets, *args.set] for word in ("--set", setting)]
        subprocess.run([args.xtask, command, "--config", args.config, "--out", str(out), *more, *words], check=True)
        clock.write_text(str(time.monotonic() - start))
    return json.loads(report.read_text()), float(clock.read_text())


def mean_and_interval(values):
    """Mean over seeds and half of its 95 % interval (Student's t)."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, float("nan")
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, STUDENT[len(values) - 2] * spread / math.sqrt(len(values))


def wilson(share, count):
    """Wilson's 95 % interval of a share."""
    z = 1.96
    middle, half = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    return [round((middle + sign * half) / (1 + z * z / count), 4) for sign in (-1, 1)]


def losses(args):
    rows = []
    conversations = Path(args.out) / "chosen.jsonl"
    if not conversations.exists():
        write_chosen(args.data, conversations)
    for seed in args.seeds:
        folder = Path(args.out) / f"seed-{seed}"
        base = [f"seed={seed}"]
        xtask(args, "sft", folder / "sft", base, "--data", str(conversations))
        for name, sets in LOSSES.items():
            more = ["--data", args.data, "--adapter", str(folder / "sft" / "adapter")]
            share_reference(folder / "sigmoid", folder / name)
            report, seconds = xtask(args, "dpo", folder / name, base + sets, *more)
            rows.append({"name": name, "seed": seed, "pairs": report["eval"]["pairs"],
                         "accuracy": report["eval"]["accuracy_end"],
                         **dict(zip(("low", "high"), wilson(report["eval"]["accuracy_end"], report["eval"]["pairs"]))),
                         "margin": report["eval"]["margin_end"],
                         "loss": report["eval"]["loss_end"], "seconds": round(seconds, 1)})
    write(args, rows, "accuracy", "held-out accuracy")


def share_reference(made, wanted):
    """The reference's log-probabilities are the same for all losses but KTO, which needs more of them: a file that
    does not fit is refused by name."""
    source, target = made / "reference.json", wanted / "reference.json"
    if source.exists() and not target.exists() and wanted.name != "kto":
        wanted.mkdir(exist_ok=True)
        shutil.copy(source, target)


def packing(args):
    rows = []
    for seed in args.seeds:
        for name, sets in WAYS.items():
            out = Path(args.out) / f"seed-{seed}" / name
            report, seconds = xtask(args, "sft", out, [f"seed={seed}", *sets], "--data", args.data)
            tokens, training = of_training(out, report)
            rows.append({"name": name, "seed": seed, "loss": report["eval_loss_end"], "steps": report["steps"],
                         "tokens": tokens, "seconds": round(training, 2), "whole": round(seconds, 1),
                         "tokens_per_second": round(tokens / training, 1)})
    write(args, rows, "tokens_per_second", "tokens per second")


def of_training(out, report):
    """Input tokens and seconds from the first log entry of training to the last, without loading and evaluation. The
    times are those of the TensorBoard events: records of a length, four bytes, an event, four bytes; an event begins
    with its time (a double) and its step (a varint)."""
    times = {}
    for path in (out / "tensorboard").glob("events*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            (when,) = struct.unpack_from("<d", data, at + 13)
            step, shift, i = 0, 0, at + 22
            if data[at + 21] == 0x10:
                while True:
                    step |= (data[i] & 127) << shift
                    shift, i = shift + 7, i + 1
                    if data[i - 1] < 128:
                        break
            times[step] = min(when, times.get(step, when))
            at += length + 16
    entries = [entry for entry in report["log_history"] if "num_tokens" in entry]
    first, last = entries[0], entries[-1]
    return int(last["num_tokens"] - first["num_tokens"]), times[last["step"]] - times[first["step"]]


def write_chosen(pairs, path):
    """The chosen replies of hh-rlhf transcripts as conversations."""
    opener = gzip.open if pairs.endswith(".gz") else open
    path.parent.mkdir(parents=True, exist_ok=True)
    with opener(pairs, "rt") as source, open(path, "w") as target:
        for line in source:
            turns = line and json.loads(line)["chosen"].split("\n\nHuman: ")[1:]
            messages = []
            for turn in turns:
                user, *replies = turn.split("\n\nAssistant: ")
                messages.append({"role": "user", "content": user})
                messages += [{"role": "assistant", "content": reply} for reply in replies]
            roles = [message["role"] for message in messages]
            alternate = roles == ["user", "assistant"] * (len(roles) // 2)
            if roles and alternate and all(message["content"].strip() for message in messages):
                target.write(json.dumps({"messages": messages}) + "\n")


def write(args, rows, measure, title):
    out = Path(args.out)
    with open(out / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    names = list(dict.fromkeys(row["name"] for row in rows))
    of = lambda name, key: [row[key] for row in rows if row["name"] == name]
    summary = {name: mean_and_interval(of(name, measure)) for name in names}
    lines = [f"| | {title}, mean | 95 % interval | loss | seeds |", "|---|--:|---|--:|--:|"]
    for name, (mean, half) in summary.items():
        loss = sum(of(name, "loss")) / len(of(name, "loss"))
        lines.append(f"| {name} | {mean:.3f} | {mean - half:.3f} to {mean + half:.3f} | {loss:.4f} | {len(args.seeds)} |")
    (out / "results.md").write_text("\n".join(lines) + "\n")
    (out / f"{measure}.svg").write_text(figure(summary, {name: of(name, measure) for name in names}, title))
    print("\n".join(lines))


def figure(summary, values, title):
    """A row per name: each seed's value, the mean, and its interval."""
    ends = [mean + sign * (half if half == half else 0) for mean, half in summary.values() for sign in (-1, 1)]
    low, high = min(ends + sum(values.values(), [])), max(ends + sum(values.values(), []))
    low, high = low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1)
    x = lambda value: 110 + 470 * (value - low) / (high - low)
    parts = []
    for i, (name, (mean, half)) in enumerate(summary.items()):
        y = 50 + 40 * i
        parts.append(f'<text x="100" y="{y + 5}" text-anchor="end">{name}</text>')
        if half == half:
            ends = (x(mean - half), x(mean + half))
            parts.append(f'<line x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y}" y2="{y}" stroke="#888" stroke-width="3"/>')
        parts += [f'<circle cx="{x(v):.1f}" cy="{y}" r="4" fill="none" stroke="#1f77b4"/>' for v in values[name]]
        parts.append(f'<circle cx="{x(mean):.1f}" cy="{y}" r="5" fill="#1f77b4"/>')
    bottom, digits = 60 + 40 * len(summary), ".2f" if high < 10 else ",.0f"
    for k in range(5):
        value = low + (high - low) * k / 4
        parts.append(f'<text x="{x(value):.1f}" y="{bottom}" text-anchor="middle">{value:{digits}}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="620" height="{bottom + 15}" font-family="sans-serif" font-size="13">'
    title = f'<text x="345" y="22" text-anchor="middle">{title}: seeds, mean, 95 % interval</text>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', title, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--config", default="configs/hh-rlhf.yaml")
    parser.add_argument("--xtask", default="target/debug/xtask")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--packing", action="store_true")
    arguments = parser.parse_args()
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    (packing if arguments.packing else losses)(arguments)
