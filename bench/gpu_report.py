#!/usr/bin/env python3
"""HuBERT-large and BERT-base on PyTorch, the shapes of bench/gpu_report/models.ts: eager f32, TF32, bf16, and torch.compile.

    python3 bench/gpu_report.py --seconds 120

Prints a JSON line for each row as soon as it is measured, so that one that is stopped has said what it had. Models are plain
PyTorch with scaled_dot_product_attention, random weights, no dropout; a training step is forward, backward, clipping and AdamW.
f32: TF32 is off. bf16: a forward pass has bf16 weights, a training step f32 weights and autocast (AMP).
"""
import argparse
import json
import statistics
import sys
import time

START = time.perf_counter()

try:
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
except ImportError as error:
    print(json.dumps({"note": f"PyTorch is not measured: {error}"}))
    sys.exit(0)

BATCH = 2
CONV = [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]


class Layer(nn.Module):
    """A transformer layer, pre-norm as HuBERT-large's or post-norm as BERT's."""

    def __init__(self, hidden, heads, wide, eps, pre):
        super().__init__()
        self.heads, self.pre = heads, pre
        self.q, self.k, self.v, self.o = (nn.Linear(hidden, hidden) for _ in range(4))
        self.up, self.down = nn.Linear(hidden, wide), nn.Linear(wide, hidden)
        self.first, self.second = nn.LayerNorm(hidden, eps), nn.LayerNorm(hidden, eps)

    def attend(self, x):
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        y = F.scaled_dot_product_attention(split(self.q(x)), split(self.k(x)), split(self.v(x)))
        return self.o(y.transpose(1, 2).flatten(2))

    def feed(self, x):
        return self.down(F.gelu(self.up(x)))

    def forward(self, x):
        if self.pre:
            x = x + self.attend(self.first(x))
            return x + self.feed(self.second(x))
        x = self.first(x + self.attend(x))
        return self.second(x + self.feed(x))


class Hubert(nn.Module):
    """HubertForCTC in the LARGE form."""

    def __init__(self, quick):
        super().__init__()
        hidden, heads, wide, layers, filters, groups = (32, 2, 64, 2, 32, 4) if quick else (1024, 16, 4096, 24, 512, 16)
        self.convs = nn.ModuleList(
            nn.Conv1d(1 if i == 0 else filters, filters, k, stride) for i, (k, stride) in enumerate(CONV))
        self.norms = nn.ModuleList(nn.LayerNorm(filters) for _ in CONV)
        self.features, self.projection = nn.LayerNorm(filters), nn.Linear(filters, hidden)
        position = nn.Conv1d(hidden, hidden, 128, padding=64, groups=groups)
        self.position = nn.utils.parametrizations.weight_norm(position, dim=2)
        self.layers = nn.Sequential(*(Layer(hidden, heads, wide, 1e-5, True) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(hidden), nn.Linear(hidden, 32)

    def forward(self, audio):
        x = audio[:, None]
        for conv, norm in zip(self.convs, self.norms):
            x = F.gelu(norm(conv(x).transpose(1, 2)).transpose(1, 2))
        x = self.projection(self.features(x.transpose(1, 2)))
        x = x + F.gelu(self.position(x.transpose(1, 2))[..., :-1]).transpose(1, 2)
        return self.head(self.norm(self.layers(x)))


class Bert(nn.Module):
    """BertForSequenceClassification."""

    def __init__(self, quick):
        super().__init__()
        hidden, heads, wide, layers = (32, 2, 64, 1) if quick else (768, 12, 3072, 12)
        self.words, self.positions, self.types = (nn.Embedding(n, hidden) for n in (30522, 512, 2))
        self.norm = nn.LayerNorm(hidden, 1e-12)
        self.layers = nn.Sequential(*(Layer(hidden, heads, wide, 1e-12, False) for _ in range(layers)))
        self.pooler, self.head = nn.Linear(hidden, hidden), nn.Linear(hidden, 4)

    def forward(self, ids):
        at = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.positions(at) + self.types(torch.zeros_like(ids)))
        return self.head(torch.tanh(self.pooler(self.layers(x)[:, 0])))


def hubert_loss(targets):
    def loss(logits):
        frames = torch.full((BATCH,), logits.shape[1], dtype=torch.long)
        lengths = torch.full((BATCH,), targets.shape[1], dtype=torch.long)
        return F.ctc_loss(logits.float().log_softmax(-1).transpose(0, 1), targets, frames, lengths)
    return loss


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--seconds", type=float, default=120, help="after which nothing else is begun")
    parser.add_argument("--device", default="cuda", help="cpu, to try this script")
    options = parser.parse_args()
    on = options.device
    if on == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"note": f"PyTorch is not measured: torch {torch.__version__} finds no CUDA device"}))
        return
    cuda = on == "cuda"
    card = torch.cuda.get_device_name() if cuda else "CPU"
    print(json.dumps({"torch": torch.__version__, "device": card}), flush=True)
    runs = 4 if options.quick else 12
    seconds = 0.5 if options.quick else 5
    tiny = " (tiny)" if options.quick else ""
    wait = torch.cuda.synchronize if cuda else lambda: None

    def measure(run):
        """Milliseconds: a run with its wait by the wall's clock, one in a row of many, and by CUDA's events."""
        for _ in range(3):
            run()
        wait()
        once, events = [], []
        for _ in range(runs):
            begin = time.perf_counter()
            if cuda:
                first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                first.record()
            run()
            if cuda:
                last.record()
            wait()
            once.append(1e3 * (time.perf_counter() - begin))
            if cuda:
                events.append(first.elapsed_time(last))
        begin = time.perf_counter()
        for _ in range(runs):
            run()
        wait()
        row = 1e3 * (time.perf_counter() - begin) / runs
        return {"once": statistics.median(once), "inARow": row, "samples": once,
                **({"gpu": statistics.median(events)} if cuda else {})}

    samples = int(16000 * seconds)
    audio = torch.rand(BATCH, samples, device=on) * 2 - 1
    frames = samples
    for kernel, stride in CONV:
        frames = (frames - kernel) // stride + 1
    length = min(int(10 * seconds), frames // 2)
    targets = (torch.arange(length) % 31 + 1).repeat(BATCH, 1).to(on)
    classes = torch.tensor([1], device=on)
    # Python formats 5.0 otherwise than JavaScript.
    cases = {f"HuBERT-large{tiny}, {BATCH} × {seconds:g} s": (Hubert, audio, hubert_loss(targets))}
    for tokens in (64, 128):
        ids = (1000 + 7 * torch.arange(tokens, device=on))[None] % 30522
        cases[f"BERT-base{tiny}, {tokens} tokens"] = (Bert, ids, lambda logits: F.cross_entropy(logits.float(), classes))

    def row(what, mode, precision, compiled):
        make, data, loss_of = cases[what]
        for backend in (torch.backends.cuda.matmul, torch.backends.cudnn):
            backend.allow_tf32 = precision == "TF32"
        torch.manual_seed(1)
        with torch.device(on):
            model = make(options.quick)
        half = precision == "bf16"
        if mode == "forward":
            if half:
                model = model.to(torch.bfloat16)
            given = data.to(torch.bfloat16) if half and data.is_floating_point() else data
            call = torch.compile(model) if compiled else model

            def run():
                with torch.inference_mode():
                    return call(given)
        else:
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)
            call = torch.compile(model) if compiled else model

            def run():
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(on, dtype=torch.bfloat16, enabled=half):
                    logits = call(data)
                loss = loss_of(logits)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                return loss.detach()
        begin = time.perf_counter()
        if not torch.isfinite(run()).all():
            raise ValueError("a result is not finite")
        wait()
        first = 1e3 * (time.perf_counter() - begin)
        print(json.dumps({"what": what, "mode": mode, "precision": precision, "compiled": compiled, "first": first,
                          **measure(run)}), flush=True)

    everything = [(what, mode, precision, compiled)
                  for compiled in (False, True)
                  for precision in ("bf16", "f32", "TF32")
                  for mode in ("forward", "training step")
                  for what in cases
                  if not (compiled and precision == "f32")]
    for each in everything:
        name = " ".join(map(str, each[:3])) + (" compiled" if each[3] else "")
        # Compiling cannot be stopped halfway.
        needed = 3 if options.quick or not each[3] else 45 if each[0].startswith("HuBERT") else 25
        if time.perf_counter() - START + needed > options.seconds:
            print(json.dumps({"note": f"left out for want of time: {name}"}), flush=True)
            continue
        try:
            row(*each)
        except Exception as error:  # whatever one row meets, the others are measured
            print(json.dumps({"note": f"{name}: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}",
                              "failed": True}), flush=True)
        if cuda:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
