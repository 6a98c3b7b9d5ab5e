#!/usr/bin/env python3
"""Trains the demo model: a small BASED language model with all three mixers.

    train_demo.py --train FILE [--valid FILE] --out DIR
    train_demo.py --score DIR --valid FILE

Writes config.json, model.safetensors (bf16), tokenizer.json and MODEL_CARD.md to DIR. Training
takes `--minutes` on the first CUDA device, where the learning rate reaches zero. Batches are
windows of `--window` tokens after the end-of-text token, at offsets that move every epoch, which
is how `based perplexity` reads a text as well.

`--score DIR` only prints the bits per byte of the valid text under the checkpoint in DIR, on the
CPU where there is no CUDA device.

`--prepare DIR` only trains the tokenizer and encodes the texts into DIR; `--cache DIR` takes them
from there instead of repeating that work.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import time

import numpy as np
import safetensors.torch
import tokenizers
import torch
import torch.nn.functional as F

import based_torch
import corpus
import model_card
import muon

_EVAL_BATCH = 16
_LOG_EVERY = 200
_PROMPTS = ("It was a dark and stormy night, and", "\"My dear sir,\" said Mr.", "The old house")


@dataclasses.dataclass
class Data:
    """The tokenizer and both texts as uint16 ids; `valid_bytes` is the size of the valid file."""

    tokenizer: tokenizers.Tokenizer
    train: np.ndarray
    valid: np.ndarray
    valid_bytes: int


@dataclasses.dataclass
class Run:
    """What a training run did, for the model card."""

    steps: int
    tokens: int
    seconds: float
    machine: str


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=pathlib.Path, help="UTF-8 text, maybe .xz")
    parser.add_argument("--valid", type=pathlib.Path, help="text to score; never trained on")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the checkpoint")
    parser.add_argument("--score", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--prepare", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--cache", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=6.6, help="of training, compiling apart")
    parser.add_argument("--vocab_size", type=int, default=4096)
    parser.add_argument("--window", type=int, default=1024, help="tokens of a sequence")
    parser.add_argument("--batch", type=int, default=64, help="sequences of a step")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--weight_decay", type=float, default=0.2)
    parser.add_argument("--dropout", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.score and not args.valid:
        parser.error("--score needs --valid")
    if not args.score and not (args.train and (args.out or args.prepare)):
        parser.error("--train is needed with one of --out and --prepare, or --score")
    return args


def demo_config(vocab_size: int) -> dict:
    """The published dialect of config.json, for a model of just under 8 million parameters."""
    layers, heads, feature_dim, window = 10, 8, 16, 128
    package = "based.models.mixers"
    return {
        "model_type": "gpt2",
        "n_embd": 256,
        "n_layer": layers,
        "n_head": heads,
        "n_inner": 512,
        "n_positions": 0,
        "vocab_size": vocab_size,
        "pad_vocab_size_multiple": 8,
        "layer_norm_epsilon": 1e-05,
        "activation_function": "swiglu",
        "tie_word_embeddings": True,
        "rms_norm": True,
        "residual_in_fp32": True,
        "rotary_emb_fraction": 1,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "out_proj_bias": False,
        "qkv_proj_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "mixer": {
            "_target_": f"{package}.convolution.BaseConv",
            "l_max": 2048,
            "use_bias": True,
            "expand_proj": 4,
            "kernel_sizes": 3,
        },
        "alt_mixer": {
            "_target_": f"{package}.linear_attention.LinearAttention",
            "l_max": 2048,
            "feature_dim": feature_dim,
            "num_heads": heads,
            "feature_map": {
                "_target_": f"{package}.linear_attention.TaylorExp",
                "input_dim": feature_dim,
            },
        },
        "alt_mixer_2": {
            "_target_": f"{package}.slide_attention.SlidingAttention",
            "window_size": window,
            "num_heads": heads,
            "causal": True,
        },
        "alt_mixer_layers": list(range(1, layers, 3)),
        "alt_mixer_2_layers": list(range(2, layers, 3)),
    }


def load_data(args: argparse.Namespace) -> Data:
    valid_bytes = len(corpus.read_text(args.valid).encode()) if args.valid else 0
    if args.cache:
        return Data(
            tokenizers.Tokenizer.from_file(str(args.cache / "tokenizer.json")),
            np.load(args.cache / "train.npy"),
            np.load(args.cache / "valid.npy"),
            valid_bytes,
        )
    text = corpus.read_text(args.train)
    tokenizer = corpus.train_tokenizer(text, args.vocab_size)
    valid = corpus.read_text(args.valid) if args.valid else ""
    train_ids, valid_ids = (corpus.encode(tokenizer, t) for t in (text, valid))
    return Data(tokenizer, train_ids, valid_ids, valid_bytes)


def save_data(data: Data, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data.tokenizer.save(str(folder / "tokenizer.json"))
    np.save(folder / "train.npy", data.train)
    np.save(folder / "valid.npy", data.valid)


def init_weights(model: based_torch.Based) -> None:
    """Every branch into the residual starts at zero, so depth costs nothing at first."""
    for name, p in model.named_parameters():
        if name.endswith((".out_proj.weight", ".fc2.weight", ".bias")):
            torch.nn.init.zeros_(p)
        elif name.endswith("conv.conv.weight"):
            torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
        elif p.ndim == 2:
            is_embedding = p is model.embedding
            torch.nn.init.normal_(p, std=0.04 if is_embedding else p.shape[1] ** -0.5)


def make_optimizers(model: based_torch.Based, args: argparse.Namespace) -> list:
    matrices, embedding, rest = [], [model.embedding], []
    for p in model.parameters():
        if p is not model.embedding:
            (matrices if p.ndim == 2 else rest).append(p)
    groups = [
        {"params": embedding, "weight_decay": args.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return [
        muon.Muon(matrices, lr=args.lr, weight_decay=args.weight_decay),
        torch.optim.AdamW(groups, lr=args.lr / 2, betas=(0.9, 0.95), fused=True),
    ]


def windows(ids: torch.Tensor, window: int, batch: int, generator: torch.Generator):
    """Yields batches [batch, window + 1] for ever: end of text, then `window` tokens of `ids`."""
    lane = torch.arange(window, device=ids.device)
    while True:
        shift = int(torch.randint(window, (1,), generator=generator))
        count = (ids.numel() - shift) // window
        order = torch.randperm(count, generator=generator)[: count // batch * batch]
        begins = (shift + order * window).view(-1, batch).to(ids.device)
        for begin in begins:
            text = ids[begin[:, None] + lane]
            yield F.pad(text, (1, 0), value=0).long()


def loss_of(model: based_torch.Based, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())


def learning_rate(progress: float) -> float:
    """Fraction of the peak: a short warm-up, then down in a straight line to zero."""
    return min(progress / 0.02, 1.0) * max(1.0 - progress, 0.0)


def train(model: based_torch.Based, data: Data, args: argparse.Namespace) -> Run:
    ids = torch.from_numpy(data.train.astype(np.int32)).cuda()
    batches = windows(ids, args.window, args.batch, torch.Generator().manual_seed(args.seed))
    optimizers = make_optimizers(model, args)
    peaks = [[g["lr"] for g in o.param_groups] for o in optimizers]
    compiled = torch.compile(loss_of)

    def backward() -> torch.Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = compiled(model, next(batches))
        loss.backward()
        return loss.detach()

    model.train()
    start = time.monotonic()
    backward()
    torch.cuda.synchronize()
    print(f"compiled in {time.monotonic() - start:.1f} s", flush=True)
    start, step, progress = time.monotonic(), 0, 0.0
    while progress < 1.0:
        for p in model.parameters():
            p.grad = None
        loss = backward()
        for optimizer, peak in zip(optimizers, peaks):
            for group, lr in zip(optimizer.param_groups, peak):
                group["lr"] = lr * learning_rate(progress)
            optimizer.step()
        step += 1
        if step % _LOG_EVERY == 0:
            report(model, data, args, step, float(loss), time.monotonic() - start)
        if step % 10 == 0:
            torch.cuda.synchronize()  # the clock must not run ahead of the device
        progress = (time.monotonic() - start) / (60.0 * args.minutes)
    seconds = time.monotonic() - start
    machine = torch.cuda.get_device_name()
    return Run(step, step * args.batch * args.window, seconds, machine)


def report(model, data: Data, args, step: int, loss: float, seconds: float) -> None:
    rate = step * args.batch * args.window / seconds
    epochs = rate * seconds / data.train.size
    line = f"step {step} {seconds:.0f} s {rate / 1e6:.2f} Mtok/s epoch {epochs:.2f} loss {loss:.4f}"
    if data.valid.size and step % (5 * _LOG_EVERY) == 0:
        line += f" valid_bpb {bits_per_byte(model, data, args.window, share=8):.4f}"
    print(line, flush=True)


@torch.no_grad()
def bits_per_byte(model: based_torch.Based, data: Data, window: int, share: int = 1) -> float:
    """Bits per byte of the valid text in windows fresh after end of text; fp32 arithmetic.

    With `share` n, every n-th window is scored and the text's mean bytes per token are assumed.
    """
    training, nats, scored = model.training, 0.0, 0
    model.eval()
    ids = torch.from_numpy(data.valid.astype(np.int64)).to(model.embedding.device)
    pieces = list(ids.split(window))[::share]
    full = [p for p in pieces if p.numel() == window]
    batches = [torch.stack(full[i : i + _EVAL_BATCH]) for i in range(0, len(full), _EVAL_BATCH)]
    batches += [p[None] for p in pieces if p.numel() < window]
    for batch in batches:
        logits = model(F.pad(batch, (1, 0), value=0)[:, :-1])
        logits = logits.flatten(0, 1).double()
        nats += float(F.cross_entropy(logits, batch.flatten(), reduction="sum"))
        scored += batch.numel()
    model.train(training)
    return nats / math.log(2.0) / (data.valid_bytes * scored / data.valid.size)


@torch.no_grad()
def sample(model, tokenizer, prompt: str, length: int, seed: int) -> str:
    """Continues `prompt` by `length` tokens at temperature 0.8, top_p 0.95."""
    generator = torch.Generator().manual_seed(seed)
    ids = [0] + tokenizer.encode(prompt, add_special_tokens=False).ids
    for _ in range(length):
        logits = model(torch.tensor([ids], device=model.embedding.device))[0, -1]
        p, order = (logits.double().cpu() / 0.8).softmax(-1).sort(descending=True)
        p[p.cumsum(0) - p > 0.95] = 0
        ids.append(int(order[torch.multinomial(p, 1, generator=generator)]))
    return tokenizer.decode(ids[1:])


def save(model: based_torch.Based, data: Data, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: t.bfloat16().contiguous().cpu() for n, t in model.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config, indent=1) + "\n")
    data.tokenizer.save(str(folder / "tokenizer.json"))


def score(folder: pathlib.Path, valid: pathlib.Path) -> float:
    """Bits per byte of the valid text under the checkpoint in `folder`."""
    text = corpus.read_text(valid)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = corpus.encode(tokenizer, text)
    model = based_torch.load(folder, torch.float32)
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = False
        model.cuda()
    data = Data(tokenizer, np.zeros(0, np.uint16), ids, len(text.encode()))
    return bits_per_byte(model, data, window=1024)


def main() -> None:
    args = parse_args()
    if args.score:
        print(f"bits_per_byte={score(args.score, args.valid):.6f}")
        return
    torch.manual_seed(args.seed)
    data = load_data(args)
    print(f"train {data.train.size} tokens, valid {data.valid.size} tokens", flush=True)
    if args.prepare:
        save_data(data, args.prepare)
        return
    torch.backends.cuda.matmul.allow_tf32 = False
    model = based_torch.Based(demo_config(data.tokenizer.get_vocab_size()), dropout=args.dropout)
    init_weights(model)
    model.cuda()
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    run = train(model, data, args)
    save(model, data, args.out)

    shipped = based_torch.load(args.out, torch.float32).cuda()
    samples = [sample(shipped, data.tokenizer, p, 120, args.seed) for p in _PROMPTS]
    for text in samples:
        print(f"---\n{text}")
    bpb = bits_per_byte(shipped, data, window=1024) if args.valid else None
    facts = {
        "parameters": sum(p.numel() for p in shipped.parameters()),
        "file_bytes": (args.out / "model.safetensors").stat().st_size,
        "train_tokens": data.train.size,
        "bits_per_byte": bpb,
        "samples": samples,
        **vars(args),
        **dataclasses.asdict(run),
    }
    (args.out / "MODEL_CARD.md").write_text(model_card.render(shipped.config, facts))
    print(f"{run.steps} steps, {run.tokens} tokens, {run.seconds:.0f} s")
    if bpb is not None:
        print(f"bits_per_byte={bpb:.4f}")


if __name__ == "__main__":
    main()
