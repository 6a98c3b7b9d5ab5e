#!/usr/bin/env python3
"""BASED in PyTorch: the parallel form of all three mixers, in the published checkpoint format.

Parameter names and shapes are those of the published files, so `load_state_dict` and
`state_dict` read and write them as they are. `--verify DIR` checks the forward pass in float64
against `DIR/golden.safetensors` (input_ids [N, T], logits [N, T, V]).

Shapes: N sequences, T positions, d model width, H heads, E head dim, F feature dim.
"""

import argparse
import json
import math
import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

# Query rows taken at once by Taylor attention: keys past the block are never computed.
_TAYLOR_BLOCK = 256


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class ShortConv(nn.Module):
    """Holds the taps under the published name `conv.conv.weight`, [channels, 1, K]."""

    def __init__(self, channels: int, taps: int):
        super().__init__()
        self.conv = nn.Module()
        self.conv.weight = nn.Parameter(torch.empty(channels, 1, taps))

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        taps = self.conv.weight
        count, length = taps.shape[-1], a.shape[1]
        padded = F.pad(a, (0, 0, count - 1, 0))
        return sum(padded[:, i : i + length] * taps[:, 0, i] for i in range(count))


class BaseConv(nn.Module):
    """Gated short convolution: W_out(silu(conv(a)) * g) with [a | g] = W_in x."""

    def __init__(self, config: dict, inner: int):
        super().__init__()
        d = config["n_embd"]
        self.in_proj = nn.Linear(d, 2 * inner)
        self.conv = ShortConv(inner, 3)
        self.out_proj = nn.Linear(inner, d)

    def forward(self, x: torch.Tensor, rope) -> torch.Tensor:
        a, g = self.in_proj(x).chunk(2, dim=-1)
        return self.out_proj(F.silu(self.conv(a)) * g)


class LinearAttention(nn.Module):
    """Taylor linear attention with denominator, as weights 1 + s + s^2/2, s = q.k / sqrt(F)."""

    def __init__(self, config: dict):
        super().__init__()
        d, mixer = config["n_embd"], config["alt_mixer"]
        self.heads, self.features = mixer["num_heads"], mixer["feature_dim"]
        self.proj_q = nn.Linear(d, self.heads * self.features, bias=False)
        self.proj_k = nn.Linear(d, self.heads * self.features, bias=False)
        self.proj_v = nn.Linear(d, d, bias=False)
        self.out_proj = nn.Linear(d, d, bias=False)

    def forward(self, x: torch.Tensor, rope) -> torch.Tensor:
        q = _split_heads(self.proj_q(x) * self.features**-0.5, self.heads)
        k = _split_heads(self.proj_k(x), self.heads)
        v = _split_heads(self.proj_v(x), self.heads)
        head_dim, length = v.shape[-1], x.shape[1]
        # Columns of ones beside v turn the same product into the denominator; eight of them keep
        # the width a multiple of eight for the matrix units.
        v = F.pad(v, (0, 8), value=1.0)
        position = torch.arange(length, device=x.device)
        blocks = []
        for begin in range(0, length, _TAYLOR_BLOCK):
            end = min(begin + _TAYLOR_BLOCK, length)
            s = q[:, :, begin:end] @ k[:, :, :end].transpose(-1, -2)
            causal = position[begin:end, None] >= position[None, :end]
            blocks.append(torch.where(causal, 1 + s + 0.5 * s * s, 0) @ v[:, :, :end])
        y = torch.cat(blocks, dim=2)
        y = y[..., :head_dim] / (y[..., head_dim : head_dim + 1] + 1e-12)
        return self.out_proj(_merge_heads(y))


class SlidingAttention(nn.Module):
    """Softmax attention over the last W//2 + 1 keys, with rotary position embedding."""

    def __init__(self, config: dict):
        super().__init__()
        d, mixer = config["n_embd"], config["alt_mixer_2"]
        self.heads, self.span = mixer["num_heads"], mixer["window_size"] // 2
        self.Wqkv = nn.Linear(d, 3 * d, bias=False)
        self.out_proj = nn.Linear(d, d, bias=False)

    def forward(self, x: torch.Tensor, rope) -> torch.Tensor:
        q, k, v = (_split_heads(part, self.heads) for part in self.Wqkv(x).chunk(3, dim=-1))
        y = _banded_attention(_rotate(q, rope), _rotate(k, rope), v, self.span)
        return self.out_proj(_merge_heads(y))


class GatedMlp(nn.Module):
    """fc2(value * silu(gate)) with [value | gate] = fc1 x."""

    def __init__(self, config: dict, inner: int):
        super().__init__()
        self.fc1 = nn.Linear(config["n_embd"], 2 * inner, bias=False)
        self.fc2 = nn.Linear(inner, config["n_embd"], bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(value * F.silu(gate))


class Block(nn.Module):
    def __init__(self, config: dict, index: int, mlp_inner: int, dropout: float):
        super().__init__()
        d, eps = config["n_embd"], config["layer_norm_epsilon"]
        self.norm1, self.norm2 = RMSNorm(d, eps), RMSNorm(d, eps)
        if index in config["alt_mixer_2_layers"]:
            self.mixer = SlidingAttention(config)
        elif index in config["alt_mixer_layers"]:
            self.mixer = LinearAttention(config)
        else:
            self.mixer = BaseConv(config, config["mixer"]["expand_proj"] * d // 2)
        self.mlp = GatedMlp(config, mlp_inner)
        self.dropout = dropout

    def forward(self, r: torch.Tensor, rope) -> torch.Tensor:
        r = r + F.dropout(self.mixer(self.norm1(r), rope), self.dropout, self.training)
        return r + F.dropout(self.mlp(self.norm2(r)), self.dropout, self.training)


class Based(nn.Module):
    """Token ids [N, T] to logits [N, T, V]; the head is tied to the embedding.

    `config` is the published config.json as a dict; `mlp_inner` overrides `n_inner`, because the
    public MLP rounds it up and only the tensors tell the true width.
    """

    def __init__(self, config: dict, mlp_inner: int | None = None, dropout: float = 0.0):
        super().__init__()
        self.config, self.dropout = config, dropout
        d = config["n_embd"]
        self.rotary_dim = d // config["alt_mixer_2"]["num_heads"]
        pad = config["pad_vocab_size_multiple"]
        self.transformer = nn.Module()
        self.transformer.embeddings = nn.Module()
        self.transformer.embeddings.word_embeddings = nn.Embedding(
            -(-config["vocab_size"] // pad) * pad, d
        )
        self.transformer.layers = nn.ModuleList(
            Block(config, i, mlp_inner or config["n_inner"], dropout)
            for i in range(config["n_layer"])
        )
        self.transformer.ln_f = RMSNorm(d, config["layer_norm_epsilon"])

    @property
    def embedding(self) -> nn.Parameter:
        return self.transformer.embeddings.word_embeddings.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        r = F.dropout(F.embedding(ids, self.embedding), self.dropout, self.training)
        rope = _rope_tables(ids.shape[1], self.rotary_dim, r)
        for block in self.transformer.layers:
            r = block(r, rope)
        return F.linear(self.transformer.ln_f(r), self.embedding)


def load(folder: pathlib.Path, dtype: torch.dtype) -> Based:
    """Loads a checkpoint folder in `dtype`; raises if a tensor is missing or left over."""
    config = json.loads((folder / "config.json").read_text())
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors.pop("lm_head.weight", None)
    inner = tensors["transformer.layers.0.mlp.fc2.weight"].shape[1]
    model = Based(config, mlp_inner=inner).to(dtype)
    model.load_state_dict({name: t.to(dtype) for name, t in tensors.items()})
    return model.eval()


def verify(folder: pathlib.Path) -> float:
    """Returns ||logits - golden|| / ||golden|| of the float64 forward pass."""
    golden = safetensors.torch.load_file(folder / "golden.safetensors")
    model = load(folder, torch.float64)
    with torch.no_grad():
        logits = model(golden["input_ids"].long())
    want = golden["logits"].double()
    return float((logits - want).norm() / want.norm())


def _split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # [N, T, H*E] -> [N, H, T, E]


def _merge_heads(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(2)


def _rope_tables(length: int, dim: int, like: torch.Tensor):
    """cos and sin [T, dim/2]; the phase is computed in float64 and rounded once."""
    exponent = torch.arange(0, dim, 2, dtype=torch.float64, device=like.device) / dim
    position = torch.arange(length, dtype=torch.float64, device=like.device)
    phase = position[:, None] * torch.exp(-exponent * math.log(10000.0))
    return phase.cos().to(like.dtype), phase.sin().to(like.dtype)


def _rotate(x: torch.Tensor, rope) -> torch.Tensor:
    cos, sin = rope
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1).to(x.dtype)


def _banded_attention(q, k, v, span: int) -> torch.Tensor:
    """Softmax attention of query t over keys max(0, t - span) .. t; all [N, H, T, E].

    Cut into blocks of `span` queries: the keys of a block are those of itself and of its
    predecessor, so the cost is linear in T.
    """
    length, head_dim = q.shape[2], q.shape[3]
    count = -(-length // span)
    q, k, v = (
        F.pad(x, (0, 0, 0, count * span - length)).unflatten(2, (count, span)) for x in (q, k, v)
    )
    k, v = (torch.cat([F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x], dim=3) for x in (k, v))
    row = torch.arange(span, device=q.device)[:, None]
    column = torch.arange(2 * span, device=q.device)[None, :]
    block = torch.arange(count, device=q.device)[:, None, None]
    allowed = (column >= row) & (column <= row + span) & ((block > 0) | (column >= span))
    score = (q @ k.transpose(-1, -2)).masked_fill(~allowed, float("-inf")) * head_dim**-0.5
    y = score.softmax(dim=-1).to(v.dtype) @ v
    return y.flatten(2, 3)[:, :, :length]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verify", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--tolerance", type=float, default=3e-7)
    args = parser.parse_args()
    error = verify(args.verify)
    print(f"rel_err={error:.3g}")
    return 0 if error <= args.tolerance else 1


if __name__ == "__main__":
    raise SystemExit(main())
