"""Log-probabilities of replies by `score`, beside those that transformers computed from the same model. README.md
beside this says how to run it.

    python tests/external/score_gguf.py target/debug/xtask MODEL REFERENCE.json NAME CONVERSATIONS.jsonl

REFERENCE.json holds for each model's NAME a list `score` of {"logprob", "tokens"}, one for each conversation. MODEL is a
GGUF file, or anything else that --model takes.
"""

import argparse
import json
from pathlib import Path

from scores import conversations, judge, score


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xtask")
    parser.add_argument("model")
    parser.add_argument("reference")
    parser.add_argument("name")
    parser.add_argument("conversations")
    parser.add_argument("--bound", type=float, default=2e-3)
    parser.add_argument("--tokenizer", help="the folder of a tokenizer to use in place of the file's")
    args = parser.parse_args()

    tokenizer = ["--tokenizer", args.tokenizer] if args.tokenizer else []
    ours = score(args.xtask, conversations(args.conversations), "--model", args.model, *tokenizer)
    theirs = json.loads(Path(args.reference).read_text())[args.name]["score"]
    differences = []
    for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        differences.append(abs(mine["logprob"] - other["logprob"]))
        print(f"{i}: {other['tokens']} tokens, there {other['logprob']:.4f}, here {mine['logprob']:.4f}, "
              f"difference {differences[-1]:.1e}")
        assert mine["tokens"] == other["tokens"], f"here the reply has {mine['tokens']} tokens"
    judge(differences, args.bound)


if __name__ == "__main__":
    main()
