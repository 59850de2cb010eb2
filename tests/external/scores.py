"""What the checks of `score` share: its input from conversations, its output, and how far that is from another's."""

import json
import subprocess
import tempfile
from pathlib import Path


def conversations(path):
    """The messages of each line of a JSONL file."""
    return [json.loads(line)["messages"] for line in Path(path).read_text().splitlines() if line.strip()]


def score(xtask, chats, *arguments):
    """What `xtask score` says of the last message of each conversation."""
    with tempfile.TemporaryDirectory() as folder:
        asked, said = Path(folder) / "asked.jsonl", Path(folder) / "said.jsonl"
        lines = ({"prompt": chat[:-1], "completion": chat[-1]["content"]} for chat in chats)
        asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
        command = [xtask, "--quiet", "score", *map(str, arguments), "--tokens", "--input", asked, "--output", said]
        subprocess.run(command, check=True)
        return [json.loads(line) for line in said.read_text().splitlines()]


def judge(differences, bound):
    """Prints the largest difference; ends with an error where it is beyond the bound."""
    # NaN would vanish in max.
    largest = next((d for d in differences if d != d), max(differences))
    print(f"largest difference {largest:.1e}, bound {bound:.0e}")
    if not largest <= bound:
        raise SystemExit("beyond the bound")
