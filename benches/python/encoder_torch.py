"""The classifier's encoder in PyTorch beside this project's: same weights, same tokens, in turn.

usage: encoder_torch.py --model CLASSIFIER [--rounds 5] PROGRAM
PROGRAM is target/debug/examples/encoder_speed (see benches/examples/encoder_speed.rs). Prints the
largest difference of the scores and the medians over the rounds, and fails where the scores differ by
more than 1e-4. Needs torch and safetensors. Close other programs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

QUERIES = 4


class Encoder:
    """Linear weights in the file are [in, out]; torch wants [out, in]."""

    def __init__(self, folder):
        self.shape = json.loads((folder / "config.json").read_text())["encoder"]
        weights = load_file(folder / "model.safetensors")
        self.w = {
            name: value.t().contiguous() if name.endswith(".weight") else value
            for name, value in weights.items()
        }
        for i in range(self.shape["n_layers"]):
            for kind in ("weight", "bias"):
                parts = [self.w[f"layers.{i}.{name}.{kind}"] for name in ("query", "key", "value")]
                self.w[f"layers.{i}.qkv.{kind}"] = torch.cat(parts)

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w[name + ".bias"])

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".gamma"], self.w[name + ".beta"], 1e-5)

    def __call__(self, ids):
        rows, width = ids.shape
        x = F.embedding(ids, self.w["token_embedding"]) + self.w["position_embedding"][:width]
        heads = self.shape["n_heads"]
        for i in range(self.shape["n_layers"]):
            at = f"layers.{i}."
            qkv = self.linear(self.norm(x, at + "attention_norm"), at + "qkv")
            q, k, v = qkv.view(rows, width, 3, heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v)
            x = x + self.linear(mixed.transpose(1, 2).reshape(rows, width, -1), at + "out")
            wide = F.relu(self.linear(self.norm(x, at + "feed_forward_norm"), at + "up"))
            x = x + self.linear(wide, at + "down")
        x = self.norm(x, "norm")
        if self.shape["pooling"] == "attention":
            scores = self.linear(x, "queries").transpose(1, 2).softmax(-1)
            pooled = (scores @ x).reshape(rows, -1)
        else:
            pooled = x.mean(1)
        return self.linear(pooled, "head")


def median_ms(seconds, work):
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < 1.1 * seconds:
        begin = time.perf_counter()
        work()
        if time.perf_counter() - start > 0.1 * seconds:
            times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=1.0)
    arguments.add_argument("program")
    args = arguments.parse_args()
    torch.set_num_threads(2)
    encoder = Encoder(args.model)
    rounds = []
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "scores.json"
        for _ in range(args.rounds):
            command = [args.program, "--model", args.model, "--out", out, "--seconds", str(args.seconds)]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            recorded = json.loads(out.read_text())
            ids = torch.tensor(recorded["ids"])
            difference = (encoder(ids) - torch.tensor(recorded["scores"])).abs().max().item()
            ours["torch_one"] = median_ms(args.seconds, lambda: encoder(ids[:1]))
            ours["torch_many"] = median_ms(args.seconds, lambda: encoder(ids))
            rounds.append(ours)
    middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    print(f"largest difference of scores: {difference:.1e}")
    for texts, key in ((1, "one"), (len(ids), "many")):
        ours, tensors, torch_ = middle[key], middle[key + "_by_tensors"], middle["torch_" + key]
        print(
            f"{texts} texts: CPU path {ours:.3f} ms, Burn's tensors {tensors:.3f} ms, "
            f"PyTorch {torch_:.3f} ms: {torch_ / ours:.2f} times PyTorch's throughput"
        )
    print(f"matrix products: {middle['matrix_gflops']:.0f} GFLOP/s")
    sys.exit(difference > 1e-4)


if __name__ == "__main__":
    main()
