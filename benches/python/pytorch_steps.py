"""The steps of `cai-bench` by PyTorch, transformers and PEFT, on the same folder.

Each line on standard input is one step, answered by a line of JSON: its seconds, and its loss (before
the update), mean log-probability or number of new tokens. At the end of the input, the peak of resident
memory, and of what the allocator took of a GPU's. `cargo xtask bench pytorch` starts it; pip install torch
transformers peft. On a GPU: a base in bf16, adapters in f32 under autocast, as TRL trains.
"""

import argparse
import json
import os
import resource
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import torch.nn.functional as F
from peft import PeftModel
from torch.utils.checkpoint import checkpoint
from transformers import GemmaForCausalLM, GenerationConfig

parser = argparse.ArgumentParser()
parser.add_argument("--task", required=True)
parser.add_argument("--dir", required=True)
parser.add_argument("--head", choices=["full", "chunked"], default="full")
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
args = parser.parse_args()
torch.set_num_threads(args.threads)
with open(f"{args.dir}/batch.json") as file:
    batch = json.load(file)
gpu = args.device == "cuda"
torch.set_default_device(args.device)
dtype = torch.bfloat16 if gpu else torch.float32
model = GemmaForCausalLM.from_pretrained(args.dir, dtype=dtype, attn_implementation="sdpa").to(args.device)
autocast = lambda: torch.autocast(args.device, torch.bfloat16, enabled=gpu)


def token_logps(model, ids, trained):
    """log p of each token after the first where `trained`, 0 elsewhere."""
    labels, trained = ids[:, 1:], trained[:, 1:]
    if args.head == "full":
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        logps = -F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
        return logps.view(labels.shape) * trained
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][trained]
    weight = causal.lm_head.weight
    tile = lambda h, y: -F.cross_entropy(F.linear(h, weight).float(), y, reduction="none")
    pieces = zip(hidden.split(2048), labels[trained].split(2048))
    logps = [checkpoint(tile, h, y, use_reentrant=False) for h, y in pieces]
    return torch.zeros(trained.shape).masked_scatter(trained, torch.cat(logps))


def second_half(ids):
    trained = torch.zeros_like(ids, dtype=torch.bool)
    trained[:, ids.shape[1] // 2 :] = True
    return trained


def training(loss):
    """A step of AdamW on the adapter, after `loss(model)`."""
    adapted = PeftModel.from_pretrained(model, f"{args.dir}/adapter", is_trainable=True).train()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=batch["learning_rate"], weight_decay=0.0)

    def step():
        with autocast():
            value = loss(adapted)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, batch["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        return value.item()

    return step


def sft():
    ids = torch.tensor(batch["examples"])
    every = torch.ones_like(ids, dtype=torch.bool)

    def loss(model):
        if args.head == "full":
            return model(input_ids=ids, labels=ids, use_cache=False).loss
        return -token_logps(model, ids, every).sum() / every[:, 1:].sum()

    return training(loss)


def dpo(cached):
    ids = torch.tensor(batch["chosen"] + batch["rejected"])
    trained, known = second_half(ids), []

    @torch.no_grad()
    def reference(model):
        with model.disable_adapter():
            return token_logps(model, ids, trained).sum(1)

    def loss(model):
        if cached and not known:
            known.append(reference(model))
        ratio = token_logps(model, ids, trained).sum(1) - (known[0] if cached else reference(model))
        chosen, rejected = ratio.chunk(2)
        return -F.logsigmoid(batch["beta"] * (chosen - rejected)).mean()

    return training(loss)


def log_probs():
    ids = torch.tensor(batch["chosen"] + batch["rejected"])
    trained = second_half(ids)
    model.eval()

    @torch.no_grad()
    def step():
        return (token_logps(model, ids, trained).sum() / trained.sum()).item()

    return step


def generation(new):
    ids = torch.tensor(batch["prompts"])
    model.eval()
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=new, min_new_tokens=new, pad_token_id=0, eos_token_id=None
    )

    def step():
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
        assert out.shape[1] == ids.shape[1] + new
        return ids.shape[0] * new

    return step


tasks = {
    "sft": sft,
    "dpo": lambda: dpo(False),
    "dpo-cached": lambda: dpo(True),
    "log-probs": log_probs,
    "prefill": lambda: generation(1),
    "generate": lambda: generation(batch["new_tokens"]),
}
step = tasks[args.task]()
for _ in sys.stdin:
    start = time.perf_counter()
    value = step()
    if gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "value": value}), flush=True)
peak = {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
if gpu:
    peak["device_bytes"] = torch.cuda.max_memory_reserved()
print(json.dumps(peak), flush=True)
