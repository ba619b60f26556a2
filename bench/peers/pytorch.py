#!/usr/bin/env python3
"""PyTorch on the CPU, for context: the same workloads, the same JSON lines. `python pytorch.py enc12 --runs 7`."""
import argparse
import json
import statistics
import time

import torch
from gen import DATA, HUBERT, LAYERS, ConvStack, encoder
from safetensors.torch import load_file

def measure(workload, runs, run, want, **more):
    def timed():
        start = time.perf_counter()
        result = run()
        return (time.perf_counter() - start) * 1e3, result

    first, result = timed()
    results, times = [result], []
    for _ in range(runs):
        spent, result = timed()
        times.append(spent)
        results.append(result)
    if "optimizer" in more:
        result, want = torch.stack(results[:len(want)]), want[:len(results)]
    error = (result - want).double()
    if not error.norm() / want.double().norm() < 1e-3:
        raise SystemExit(f"Cannot time {workload}: the result is wrong")
    print(json.dumps({"peer": "pytorch-cpu", "version": torch.__version__, "workload": workload, "firstMs": round(first, 2),
                      "medianMs": round(statistics.median(times), 2), "maxAbs": error.abs().max().item(),
                      "relL2": (error.norm() / want.double().norm()).item(), "runs": runs, "times": times,
                      "adapter": "CPU", **more}),
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["mm1024", "enc2", "enc12", "conv", "train2", "trainh2"]
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(names) + "; default: all")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    unknown = set(options.workloads) - set(names)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(names)}")
    torch.set_num_threads(options.threads)
    io, weights = load_file(DATA / "io.safetensors"), load_file(DATA / "enc.safetensors")
    for name in options.workloads or names:
        if name in ("train2", "trainh2"):
            h, shape = ("h", HUBERT) if name == "trainh2" else ("", {})
            model = encoder(2, load_file(DATA / "hub.safetensors") if h else weights, **shape)
            x, target, want = io[f"x{h}"], io[f"target{h}"], io["losses.h.adamw" if h else "losses.adamw"]
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)

            def step():
                optimizer.zero_grad()
                loss = (model(x) - target).square().mean()
                loss.backward()
                optimizer.step()
                return loss.detach()

            measure(name, options.runs, step, want, optimizer="AdamW")
            continue
        if name == "mm1024":
            run, want = lambda: io["a"] @ io["b"], io["ab"]
        elif name == "conv":
            conv = ConvStack()
            conv.load_state_dict(load_file(DATA / "conv.safetensors"))
            run, want = lambda: conv(io["wav"]), io["yconv"]
        else:
            n = LAYERS if name == "enc12" else 2
            model = encoder(n, weights)
            run, want = lambda: model(io["x"]), io[f"y{n}"]
        with torch.no_grad():
            measure(name, options.runs, run, want)


if __name__ == "__main__":
    main()
