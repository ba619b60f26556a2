#!/usr/bin/env python3
"""Writes bench/peers/data: weights, inputs, PyTorch's answers, and ONNX files for the peers that read those.

    python gen.py              needs torch, safetensors; and onnx for the ONNX files
    python gen.py --no-onnx

  enc.safetensors    layers.N.{q,k,v,o,f1,f2,ln1,ln2}.{weight,bias}   BERT-base encoder, post-LN, weights (out, in)
  hub.safetensors    the same names: two layers of HuBERT-large, pre-LN
  conv.safetensors   c.N.{weight,bias}, n.N.{weight,bias}             HuBERT-large conv stack
  io.safetensors     a, b -> ab; x -> y2, y12; wav -> yconv; x, target -> losses.adamw, losses.adam (4 steps);
                     xh, targeth -> losses.h.adamw, losses.h.adam
"""
import argparse
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

DATA = Path(__file__).parent / "data"
LAYERS, HIDDEN, HEADS, INNER, TOKENS = 12, 768, 12, 3072, 128
CONV = [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]  # kernel, stride


HUBERT = dict(hidden=1024, heads=16, inner=4096, eps=1e-5, pre_norm=True)  # over 149 frames, 3 s
FRAMES = 149


class Layer(nn.Module):
    def __init__(self, hidden=HIDDEN, heads=HEADS, inner=INNER, eps=1e-12, pre_norm=False):
        super().__init__()
        self.heads, self.pre_norm = heads, pre_norm
        self.q, self.k, self.v, self.o = (nn.Linear(hidden, hidden) for _ in range(4))
        self.f1, self.f2 = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.ln1, self.ln2 = nn.LayerNorm(hidden, eps=eps), nn.LayerNorm(hidden, eps=eps)

    def attend(self, x):
        B, T, C = x.shape
        q, k, v = (f(x).view(B, T, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        p = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(C // self.heads), -1)
        return self.o((p @ v).transpose(1, 2).reshape(B, T, C))

    def feed(self, x):
        return self.f2(F.gelu(self.f1(x)))

    def forward(self, x):
        if self.pre_norm:
            x = x + self.attend(self.ln1(x))
            return x + self.feed(self.ln2(x))
        x = self.ln1(x + self.attend(x))
        return self.ln2(x + self.feed(x))


class Encoder(nn.Module):
    def __init__(self, layers: int, **shape):
        super().__init__()
        self.layers = nn.ModuleList(Layer(**shape) for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class ConvStack(nn.Module):
    """HuBERT-large's feature extractor: conv with bias, layer norm over channels, GELU."""

    def __init__(self):
        super().__init__()
        self.c = nn.ModuleList(nn.Conv1d(512 if i else 1, 512, k, s) for i, (k, s) in enumerate(CONV))
        self.n = nn.ModuleList(nn.LayerNorm(512) for _ in CONV)

    def forward(self, x):
        x = x[:, None]
        for c, n in zip(self.c, self.n):
            x = F.gelu(n(c(x).transpose(1, 2)).transpose(1, 2))
        return x


class MatMul(nn.Module):
    def forward(self, a, b):
        return a @ b


def randn(seed: int, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(model):
    g = torch.Generator().manual_seed(7)
    for name, p in model.named_parameters():
        x = torch.randn(p.shape, generator=g)
        if p.dim() == 3:
            x *= math.sqrt(2 / p[0].numel())
        elif p.dim() == 1 and name.endswith("weight"):
            x = 1 + 0.1 * x
        else:
            x *= 0.03
        p.data = x
    return model.eval()


def encoder(layers: int, weights: dict, **shape) -> Encoder:
    model = Encoder(layers, **shape)
    model.load_state_dict({k: v.clone() for k, v in weights.items() if int(k.split(".")[1]) < layers})
    return model.eval()


def losses(model, optimizer, x, target) -> torch.Tensor:
    found = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return torch.stack(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-onnx", action="store_true")
    onnx = not parser.parse_args().no_onnx
    DATA.mkdir(exist_ok=True)
    weights = seeded(Encoder(LAYERS)).state_dict()
    conv = seeded(ConvStack())
    io = {"a": randn(3, 1024, 1024), "b": randn(4, 1024, 1024), "x": randn(1, 1, TOKENS, HIDDEN),
          "target": randn(2, 1, TOKENS, HIDDEN), "wav": randn(5, 1, 16000)}
    with torch.no_grad():
        io["ab"] = (io["a"].double() @ io["b"].double()).float()
        for n in (2, LAYERS):
            io[f"y{n}"] = encoder(n, weights)(io["x"])
        io["yconv"] = conv(io["wav"])
    for name, cls, decay in (("adamw", torch.optim.AdamW, 0.01), ("adam", torch.optim.Adam, 0.0)):
        model = encoder(2, weights)
        io[f"losses.{name}"] = losses(model, cls(model.parameters(), lr=1e-3, weight_decay=decay), io["x"], io["target"])
    hub = seeded(Encoder(2, **HUBERT)).state_dict()
    io.update(xh=randn(6, 1, FRAMES, HUBERT["hidden"]), targeth=randn(7, 1, FRAMES, HUBERT["hidden"]))
    for name, cls, decay in (("adamw", torch.optim.AdamW, 0.01), ("adam", torch.optim.Adam, 0.0)):
        model = encoder(2, hub, **HUBERT)
        io[f"losses.h.{name}"] = losses(model, cls(model.parameters(), lr=1e-3, weight_decay=decay), io["xh"], io["targeth"])
    save_file(hub, DATA / "hub.safetensors")
    save_file(weights, DATA / "enc.safetensors")
    save_file(conv.state_dict(), DATA / "conv.safetensors")
    save_file({k: v.contiguous() for k, v in io.items()}, DATA / "io.safetensors")
    if onnx:
        for name, model, args in (("mm1024", MatMul(), ("a", "b")), ("enc2", encoder(2, weights), ("x",)),
                                  ("enc12", encoder(LAYERS, weights), ("x",)), ("conv", conv, ("wav",))):
            torch.onnx.export(model, tuple(io[k] for k in args), str(DATA / f"{name}.onnx"), opset_version=17,
                              input_names=list(args), output_names=["y"], dynamo=False)


if __name__ == "__main__":
    main()
