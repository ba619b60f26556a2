"""torch.nn.LSTM on the CPU at the sizes given as JSON: fastest milliseconds of a forward, and of one with a backward."""
import json
import sys
import time

import torch

RUNS = int(sys.argv[2])


def fastest(body):
    body()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        body()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


rows = []
for size in json.loads(sys.argv[1]):
    lstm = torch.nn.LSTM(size["K"], size["H"], batch_first=True, bidirectional=size["D"] == 2)
    x = torch.randn(size["B"], size["T"], size["K"], requires_grad=True)

    def forward():
        with torch.no_grad():
            return lstm(x)[0]

    def training():
        lstm.zero_grad()
        lstm(x)[0].sum().backward()

    rows.append([fastest(forward), fastest(training)])
print(json.dumps(rows))
