"""Log-probabilities of replies, by transformers and PEFT and by `score`, of a base with an adapter that this project
made: LoRA, trained token rows, saved modules. README.md beside this says how to run it.

    python tests/external/peft_rows.py target/debug/xtask BASE ADAPTER CONVERSATIONS.jsonl

BASE is a folder in Hugging Face's format. The differences are of single tokens' log-probabilities.
"""

import argparse
import os

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")

import torch
from peft import PeftModel
from scores import conversations, judge, score
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.no_grad()
def reply_logprobs(model, tokenizer, chat):
    """Of each token that the chat template adds for the last message."""
    ids = lambda messages, **settings: tokenizer.apply_chat_template(messages, return_dict=False, **settings)
    prompt, whole = ids(chat[:-1], add_generation_prompt=True), ids(chat)
    same = [a == b for a, b in zip(prompt, whole)] + [False]
    start = same.index(False)
    logits = model(input_ids=torch.tensor([whole]), use_cache=False).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(1, torch.tensor(whole[1:])[:, None])[start - 1 :, 0].tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xtask")
    parser.add_argument("base")
    parser.add_argument("adapter")
    parser.add_argument("conversations")
    parser.add_argument("--bound", type=float, default=1e-4)
    args = parser.parse_args()

    chats = conversations(args.conversations)
    ours = score(args.xtask, chats, "--model", args.base, "--adapter", args.adapter)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    base = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base.eval(), args.adapter).eval()
    differences = []
    for i, (chat, mine) in enumerate(zip(chats, ours, strict=True)):
        theirs = reply_logprobs(model, tokenizer, chat)
        with model.disable_adapter():
            without = sum(reply_logprobs(model, tokenizer, chat))
        print(f"{i}: {len(theirs)} tokens, PEFT {sum(theirs):.4f}, here {mine['logprob']:.4f}, without {without:.4f}")
        assert len(theirs) == len(mine["token_logprobs"]), f"here the reply has {mine['tokens']} tokens"
        differences += [abs(a - b) for a, b in zip(theirs, mine["token_logprobs"])]
    judge(differences, args.bound)


if __name__ == "__main__":
    main()
