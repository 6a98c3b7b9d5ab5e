#!/usr/bin/env python3
"""Tokens per second of a BASED model in plain PyTorch, for comparison with cpu_bench.

  torch_baseline.py CHECKPOINT_DIR [--batch 1 8 32] [--threads 2] [--steps 16] [--repeats 20]
  torch_baseline.py --layers cclwcclwc --width 256 --heads 8 --features 16 --window 128 --vocab 4096

The first form reads config.json and model.safetensors as published; the second makes random
weights of the shape that cpu_bench has by default. Recurrent decoding in fp32 under inference mode:
all streams in one batch, state preallocated and updated in place, packed features, greedy choice.
Every figure is the best of `repeats` runs. --clock cpu times by the process's processor time: with
--threads 1 that leaves out the time for which other processes had the core.
"""
import argparse
import json
import math
import os
import struct
import time

import numpy as np
import torch
import torch.nn.functional as F


def read_safetensors(path):
    """All tensors of a file, as fp32."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        raw = data[entry["data_offsets"][0]:entry["data_offsets"][1]]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] in ("F32", "F16"):
            kind = np.float32 if entry["dtype"] == "F32" else np.float16
            values = np.frombuffer(raw, kind).astype(np.float32)
        else:
            continue
        name = name[len("model."):] if name.startswith("model.") else name
        tensors[name] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    return tensors


class Shape:
    """What decoding needs to know of a model: width, vocab, eps and per layer its kind."""

    def __init__(self, args):
        if args.checkpoint:
            with open(os.path.join(args.checkpoint, "config.json"), encoding="utf-8") as file:
                config = json.load(file)
            linear, window = config.get("alt_mixer") or {}, config.get("alt_mixer_2") or {}
            kinds = ["c"] * config["n_layer"]
            for i in config.get("alt_mixer_layers") or []:
                kinds[i] = "l"
            for i in config.get("alt_mixer_2_layers") or []:
                kinds[i] = "w"
            self.kinds, self.width, self.vocab = kinds, config["n_embd"], config["vocab_size"]
            self.eps = config.get("layer_norm_epsilon", 1e-5)
            self.features = linear.get("feature_dim", 16)
            self.linear_heads = linear.get("num_heads", config["n_head"])
            self.window_heads = window.get("num_heads", config["n_head"])
            self.window_left = window.get("window_size", 0) // 2
        else:
            self.kinds, self.width, self.vocab = list(args.layers), args.width, args.vocab
            self.eps, self.features = 1e-5, args.features
            self.linear_heads = self.window_heads = args.heads
            self.window_left = args.window // 2


def random_weights(shape):
    d, spread = shape.width, shape.width ** -0.5
    keys = shape.linear_heads * shape.features
    mixers = {
        "c": {"in_proj.weight": (4 * d, d), "in_proj.bias": (4 * d,), "conv.conv.weight": (2 * d, 1, 3),
              "out_proj.weight": (d, 2 * d), "out_proj.bias": (d,)},
        "l": {"proj_q.weight": (keys, d), "proj_k.weight": (keys, d), "proj_v.weight": (d, d),
              "out_proj.weight": (d, d)},
        "w": {"Wqkv.weight": (3 * d, d), "out_proj.weight": (d, d)},
    }
    weights = {"transformer.embeddings.word_embeddings.weight": torch.randn(shape.vocab, d),
               "transformer.ln_f.weight": torch.ones(d)}
    for i, kind in enumerate(shape.kinds):
        prefix = f"transformer.layers.{i}."
        for name, size in mixers[kind].items():
            weights[prefix + "mixer." + name] = torch.randn(*size) * spread
        weights[prefix + "mlp.fc1.weight"] = torch.randn(4 * d, d) * spread
        weights[prefix + "mlp.fc2.weight"] = torch.randn(d, 2 * d) * spread
        weights[prefix + "norm1.weight"] = weights[prefix + "norm2.weight"] = torch.ones(d)
    return weights


class Norm:
    def __init__(self, weight, eps):
        self.weight, self.eps = weight, eps

    def __call__(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Conv:
    def __init__(self, weights, shape, batch):
        self.w_in, self.b_in = weights["in_proj.weight"], weights["in_proj.bias"]
        self.w_out, self.b_out = weights["out_proj.weight"], weights["out_proj.bias"]
        self.taps = weights["conv.conv.weight"][:, 0, :].t().contiguous()  # [3, 2d]
        self.rows = torch.zeros(batch, 3, 2 * shape.width)

    def __call__(self, x, _):
        a, g = F.linear(x, self.w_in, self.b_in).chunk(2, -1)
        self.rows[:, 0], self.rows[:, 1] = self.rows[:, 1].clone(), self.rows[:, 2].clone()
        self.rows[:, 2] = a
        return F.linear(F.silu((self.rows * self.taps).sum(1)) * g, self.w_out, self.b_out)


class Taylor:
    def __init__(self, weights, shape, batch):
        self.heads, self.features = shape.linear_heads, shape.features
        self.w_in = torch.cat([weights["proj_q.weight"], weights["proj_k.weight"],
                               weights["proj_v.weight"]])
        self.w_out = weights["out_proj.weight"]
        i, j = torch.triu_indices(self.features, self.features)
        self.i, self.j = i, j
        self.scale = torch.where(i == j, math.sqrt(0.5), 1.0)
        packed = 1 + self.features + len(i)
        self.ones = torch.ones(batch, 2, self.heads, 1)
        head_dim = shape.width // self.heads
        self.state = torch.zeros(batch * self.heads, packed, head_dim + 1)  # last column: z
        self.value = torch.ones(batch, self.heads, head_dim + 1)

    def __call__(self, x, _):
        batch, keys = x.shape[0], self.heads * self.features
        qk, v = F.linear(x, self.w_in).split([2 * keys, x.shape[1]], -1)
        qk = qk.view(batch, 2, self.heads, self.features) * self.features ** -0.25
        phi = torch.cat([self.ones, qk, qk[..., self.i] * qk[..., self.j] * self.scale], -1)
        self.value[..., :-1] = v.view(batch, self.heads, -1)
        phi_q, phi_k = phi.unbind(1)
        flat = batch * self.heads
        self.state.baddbmm_(phi_k.reshape(flat, -1, 1), self.value.view(flat, 1, -1))
        y = torch.bmm(phi_q.reshape(flat, 1, -1), self.state)
        y = y[..., :-1] / (y[..., -1:] + 1e-12)
        return F.linear(y.reshape(batch, -1), self.w_out)


class Window:
    def __init__(self, weights, shape, batch):
        self.heads, self.ring = shape.window_heads, shape.window_left + 1
        self.w_in, self.w_out = weights["Wqkv.weight"], weights["out_proj.weight"]
        head_dim = shape.width // self.heads
        self.turns = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        self.keys = torch.zeros(batch, self.heads, self.ring, head_dim)
        self.values = torch.zeros(batch, self.heads, self.ring, head_dim)

    def __call__(self, x, position):
        qkv = F.linear(x, self.w_in).view(x.shape[0], 3, self.heads, -1)
        angle = position * self.turns
        cos, sin = angle.cos().float(), angle.sin().float()
        low, high = qkv[:, :2].chunk(2, -1)
        q, k = torch.cat([low * cos - high * sin, high * cos + low * sin], -1).unbind(1)
        place, seen = position % self.ring, min(position + 1, self.ring)
        self.keys[:, :, place], self.values[:, :, place] = k, qkv[:, 2]
        scores = torch.matmul(self.keys[:, :, :seen], q.unsqueeze(-1)) * q.shape[-1] ** -0.5
        y = torch.matmul(scores.softmax(2).transpose(2, 3), self.values[:, :, :seen])
        return F.linear(y.reshape(x.shape[0], -1), self.w_out)


class Model:
    def __init__(self, weights, shape, batch):
        self.table = weights["transformer.embeddings.word_embeddings.weight"]
        self.final = Norm(weights["transformer.ln_f.weight"], shape.eps)
        self.vocab = shape.vocab
        self.layers = []
        for i, kind in enumerate(shape.kinds):
            prefix = f"transformer.layers.{i}."
            own = {k[len(prefix):]: v for k, v in weights.items() if k.startswith(prefix)}
            mixer = {k[len("mixer."):]: v for k, v in own.items() if k.startswith("mixer.")}
            kind = {"c": Conv, "l": Taylor, "w": Window}[kind]
            self.layers.append((Norm(own["norm1.weight"], shape.eps), kind(mixer, shape, batch),
                                Norm(own["norm2.weight"], shape.eps), own["mlp.fc1.weight"],
                                own["mlp.fc2.weight"]))

    def step(self, tokens, position):
        x = F.embedding(tokens, self.table)
        for norm1, mixer, norm2, fc1, fc2 in self.layers:
            x = x + mixer(norm1(x), position)
            value, gate = F.linear(norm2(x), fc1).chunk(2, -1)
            x = x + F.linear(value * F.silu(gate), fc2)
        return F.linear(self.final(x), self.table)[:, :self.vocab]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--layers", default="cclwcclwc")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--greedy", type=int, nargs="+", help="prompt ids; print 32 greedy ids")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    shape = Shape(args)
    if args.checkpoint:
        weights = read_safetensors(os.path.join(args.checkpoint, "model.safetensors"))
        head = "transformer.embeddings.word_embeddings.weight"
        weights.setdefault(head, weights.get("lm_head.weight"))
    else:
        weights = random_weights(shape)
    with torch.inference_mode():
        if args.greedy:
            model, ids = Model(weights, shape, 1), list(args.greedy)
            for position in range(len(args.greedy) + 31):
                logits = model.step(torch.tensor([ids[position]]), position)
                if position + 1 >= len(args.greedy):
                    ids.append(int(logits.argmax()))
            print(*ids[len(args.greedy):])
            return
        for batch in args.batch:
            model = Model(weights, shape, batch)
            tokens, best, position = torch.arange(batch) % shape.vocab, math.inf, 0
            for _ in range(args.repeats + 1):  # the first run warms up
                start = clock()
                for _ in range(args.steps):
                    tokens = model.step(tokens, position).argmax(-1)
                    position += 1
                best = min(best, (clock() - start) / args.steps)
            print(f"torch {torch.__version__}, {args.threads} threads, fp32, {args.clock}, batch {batch:3d}: "
                  f"{batch / best:8.0f} tok/s  {best * 1e6:8.0f} us/step", flush=True)


if __name__ == "__main__":
    main()
