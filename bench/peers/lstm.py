"""torch.nn.LSTM on the CPU: lstm.py CASES RUNS, as bench/lstm.bench.ts calls it. CASES is JSON: files of inputs and results, and
how often a run computes them. One line of JSON: of each case the fastest milliseconds of a forward, and of one with a
backward, and the relative L2 distances of both from the file's results."""
import json
import sys
import time

import torch
from safetensors.torch import load_file

torch.set_num_threads(2)
RUNS = int(sys.argv[2])


def fastest(body, repeats):
    body()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for _ in range(repeats):
            body()
        times.append((time.perf_counter() - start) * 1e3 / repeats)
    return min(times)


def distance(got, want):
    return ((got - want).double().norm() / want.double().norm()).item()


# Inputs of the engine by the parameters of torch.nn.LSTM; directions lie one below the other there.
NAMES = {"weight_ih": "weightIh", "weight_hh": "weightHh", "bias_ih": "biasIh", "bias_hh": "biasHh"}

rows = []
for case in json.loads(sys.argv[1]):
    stored = load_file(case["file"])
    x, H = stored["x"].requires_grad_(), stored["weightHh"].shape[1]
    directions = ["", "_reverse"][: stored["weightHh"].shape[0] // (4 * H)]
    lstm = torch.nn.LSTM(x.shape[2], H, batch_first=True, bidirectional=len(directions) == 2)

    def parameters(name):
        return [getattr(lstm, f"{name}_l0{suffix}") for suffix in directions]

    with torch.no_grad():
        for name, key in NAMES.items():
            for parameter, value in zip(parameters(name), stored[key].chunk(len(directions))):
                parameter.copy_(value)

    def forward():
        with torch.no_grad():
            return lstm(x)[0]

    def training():
        lstm.zero_grad()
        x.grad = None
        lstm(x)[0].sum().backward()

    training()
    gradients = {"x": x.grad} | {key: torch.cat([p.grad for p in parameters(name)]) for name, key in NAMES.items()}
    rows.append(
        {
            "ms": [fastest(forward, case["repeats"]), fastest(training, case["repeats"])],
            "relL2": [
                distance(forward(), stored["y"]),
                max(distance(got, stored[f"gradient.{key}"]) for key, got in gradients.items()),
            ],
        }
    )
print(json.dumps(rows))
