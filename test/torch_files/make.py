"""Writes the files beside this one with torch.save(), and what they hold as safetensors: python test/torch_files/make.py"""
import collections
import io
import json
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

here = Path(__file__).parent
g = torch.Generator().manual_seed(1)
base = torch.randn(6, 5, generator=g)
cube = torch.randn(3, 4, 5, generator=g)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = torch.nn.Linear(4, 3), torch.nn.Linear(3, 4, bias=False)
        self.down.weight = self.up.weight  # tied
        self.register_buffer("position_ids", torch.arange(6).expand((1, -1)))


def state():
    return collections.OrderedDict(
        {
            "whole": base,
            "transposed": base.t(),
            "column": base[:, 2],
            "steps": base[1::2, ::2],
            "row": base[3],
            "permuted": cube.permute(2, 0, 1),
            "slab": cube[:, 1:3],
            "expanded": base[:, :1].expand(6, 4),
            "channels_last": torch.randn(2, 3, 4, 5, generator=g).to(memory_format=torch.channels_last),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 5),
            "half": base.half().t(),
            "bfloat": base.bfloat16()[::2],
            "double": base.double(),
            "long": (torch.arange(6, dtype=torch.int64) - 3) * 2**40,
            "int": torch.arange(-3, 3, dtype=torch.int32),
            "short": torch.arange(-3, 3, dtype=torch.int16),
            "char": torch.arange(-3, 3, dtype=torch.int8),
            "byte": torch.arange(250, 256, dtype=torch.uint8).reshape(2, 3).t(),
            "bool": torch.tensor([True, False, True]),
            "complex": torch.complex(base[0], base[1]),
            "parameter": torch.nn.Parameter(base[:2]),
        }
    )


def main():
    torch.manual_seed(0)
    plain = state()
    torch.save(plain, here / "zip.bin")
    torch.save(plain, here / "legacy.bin", _use_new_zipfile_serialization=False)
    for protocol in (3, 4, 5):
        torch.save(plain, here / f"protocol{protocol}.bin", pickle_protocol=protocol)
    torch.save(plain, here / "legacy4.bin", pickle_protocol=4, _use_new_zipfile_serialization=False)
    torch.save({**plain, "u16": torch.arange(3).to(torch.uint16), "f8": base.to(torch.float8_e4m3fn)}, here / "v3.bin")
    save_file({k: v.contiguous().clone() for k, v in plain.items()}, here / "expected.safetensors")

    net = Net().eval()
    torch.save(net.state_dict(), here / "module.bin")
    net.up.weight.note = "kept in Python alone"
    torch.save({**net.state_dict(keep_vars=True), "epoch": 3, "names": ["a", {"b": 1.5}], 7: None}, here / "extras.bin")

    home = here / "sharded"
    home.mkdir(exist_ok=True)
    keys, index = list(plain), {}
    for i, part in enumerate((keys[:9], keys[9:]), 1):
        name = f"pytorch_model-0000{i}-of-00002.bin"
        torch.save({k: plain[k] for k in part}, home / name)
        index.update({k: name for k in part})
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": index}, indent=1)
    (home / "pytorch_model.bin.index.json").write_text(text + "\n")

    # Objects that a state dict does not hold.
    torch.save(net, here / "module_object.bin")
    torch.save({"optimizer": torch.optim.AdamW(net.parameters()).state_dict(), "epoch": 3}, here / "nested.bin")
    torch.save({"sparse": base.to_sparse()}, here / "sparse.bin")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), here / "script.bin")
    buffer = io.BytesIO()
    torch.save({"a": base}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(here / "big_endian.bin", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(here / "deflated.bin", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


main()
