"""Checks event files against TensorBoard itself: a short run of SFT, and every number of metrics.jsonl read back with
TensorBoard's own reader. README.md beside this says how to run it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util


def train(xtask, folder):
    data, out = Path(folder) / "data.jsonl", Path(folder) / "run"
    pair = lambda i: {"prompt": f"What is {i}?", "completion": f"It is {i}."}
    data.write_text("".join(json.dumps(pair(i)) + "\n" for i in range(40)))
    settings = ["sft.train.max_steps=4", "sft.train.logging_steps=1", "sft.train.eval_steps=2", "sft.held_out=0.2"]
    sets = [word for setting in settings for word in ("--set", setting)]
    subprocess.run([xtask, "--quiet", "sft", "--data", str(data), "--out", str(out), *sets], check=True,
                   stdout=subprocess.DEVNULL)
    return out


def tag(name):
    return "eval/" + name.removeprefix("eval_") if name.startswith("eval_") else "train/" + name


def main():
    with tempfile.TemporaryDirectory() as folder:
        out = train(sys.argv[1], folder)
        events = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
        found = {(name, event.step): event.value
                 for name in events.Tags()["scalars"] for event in events.Scalars(name)}
        found |= {(name, event.step): tensor_util.make_ndarray(event.tensor_proto).item()
                  for name in events.Tags()["tensors"] for event in events.Tensors(name)}
        wanted = {}
        for line in (out / "metrics.jsonl").read_text().splitlines():
            entry = json.loads(line)
            step, _ = entry.pop("step"), entry.pop("epoch")
            wanted |= {(tag(name), step): float(np.float32(value)) for name, value in entry.items()}
        missing = {key for key in wanted if found.get(key) != wanted[key]}
        assert not missing, f"other or missing: {sorted(missing)}"
        assert set(found) == set(wanted), sorted(set(found) - set(wanted))
        print(len(wanted), "numbers are the same")


if __name__ == "__main__":
    main()
