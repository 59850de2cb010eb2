"""Several seeds' mean accuracy minus the baseline's, with a 95 % bootstrap interval over the texts (docs/results.md).

usage: classifier_mean.py VALID.jsonl BASELINE.jsonl PREDICTIONS.jsonl...
"""

import json
import sys

import numpy as np


def labels(path):
    with open(path) as lines:
        return np.array([json.loads(line)["label"] for line in lines])


truth, baseline, *seeds = map(labels, sys.argv[1:])
difference = np.mean([seed == truth for seed in seeds], axis=0) - (baseline == truth)
rng = np.random.default_rng(0)
means = [rng.choice(difference, len(difference)).mean() for _ in range(10_000)]
low, high = np.percentile(means, [2.5, 97.5])
print(f"{100 * difference.mean():+.2f} [{100 * low:+.2f}, {100 * high:+.2f}] points")
