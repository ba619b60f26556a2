#!/usr/bin/env python3
"""Opens model folders and checkpoints of `wavegate train` with real transformers, outside of `npm test`.

    python test/opens_in_transformers.py weights/default runs/a/checkpoints/stage2-0000010 [--audio a.wav ...]

Needs torch, transformers and safetensors. Of each folder:
  - HubertForCTC and BertModel (BertForMaskedLM after stage 0, HubertModel after hubert-pretrain) find every key that they want, in their shapes, and every
    key of their prefixes in the file is wanted;
  - what they hold is, bit for bit, what the file holds;
  - the words that transformers hears in the recordings are those of `wavegate predict`.
Exits with 1 where something differs.
"""
import argparse
import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent


class Difference(Exception):
    """What differs, in one line."""


def opened(folder: Path, cls, config, prefixes: tuple[str, ...], **options):
    """The model as transformers loads it, every weight of it compared with the file."""
    model, report = cls.from_pretrained(folder, config=config, output_loading_info=True, **options)
    if report["missing_keys"] or report["mismatched_keys"]:
        raise Difference(f"{cls.__name__} lacks {sorted(report['missing_keys'])} {report['mismatched_keys']}")
    stray = [key for key in report["unexpected_keys"] if key.startswith(prefixes)]
    if stray:
        raise Difference(f"{cls.__name__} has no place for {stray}")
    base = getattr(cls, "base_model_prefix", "")
    held, compared = model.state_dict(), 0
    for key, value in load_file(folder / "model.safetensors").items():
        if not key.startswith(prefixes):
            continue
        own = next((held[k] for k in spellings(key, base) if k in held), None)
        if own is None or not torch.equal(own, value):
            raise Difference(f"{cls.__name__} holds other values of {key}")
        compared += 1
    print(f"  {cls.__name__}: {compared} tensors, as in the file")
    return model.eval()


def spellings(key: str, base: str):
    """A key as the file and as today's modules have it."""
    own = key.removeprefix(f"{base}.")
    for name in (key, own):
        yield name
        yield name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1")


def samples(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (16000, 1, 2):
            raise Difference(f"{path} is not 16 kHz, mono, 16 bits")
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32) / 32768


def heard(model, folder: Path, audio: list[Path]) -> list[str]:
    """Greedy transcripts by transformers alone: repeats are one label, then blanks go.

    Decoding with skip_special_tokens drops the blanks first, after which a doubled letter is a repeat.
    """
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    words = []
    for path in audio:
        inputs = extractor(samples(path), sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            labels = torch.unique_consecutive(model(**inputs).logits.argmax(-1)[0])
        labels = labels[labels != model.config.pad_token_id]
        text = tokenizer.decode(labels, group_tokens=False, skip_special_tokens=True)
        words.append(" ".join(text.split()))
    return words


def predicted(folder: Path, audio: list[Path]) -> list[str]:
    command = ["node", "--import", "tsx", "tools/predict.ts", *[str(p.resolve()) for p in audio],
               "--model", str(folder.resolve()), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise Difference(f"wavegate predict: {done.stderr.strip()}")
    return [file["transcript"] for file in json.loads(done.stdout)["files"]]


def check(folder: Path, audio: list[Path]) -> None:
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == "bert":  # stage 0
        opened(folder, transformers.BertForMaskedLM, transformers.BertConfig.from_pretrained(folder), ("bert.", "cls."))
        return
    if config["model_type"] == "hubert":  # pretraining
        settings = transformers.HubertConfig.from_pretrained(folder)
        cls = transformers.HubertForCTC if config["architectures"] == ["HubertForCTC"] else transformers.HubertModel
        opened(folder, cls, settings, ("hubert.", "lm_head."))
        return
    if "bert" in config:
        settings = transformers.BertConfig.from_pretrained(folder / "bert")
        bert = opened(folder, transformers.BertModel, settings, ("bert.",), add_pooling_layer=False)
        tokens = transformers.BertTokenizer.from_pretrained(folder)("so tired of this", return_tensors="pt")
        if not torch.isfinite(bert(**tokens).last_hidden_state).all():
            raise Difference("BertModel answers with what is not finite")
    if "hubert" in config:
        hubert = transformers.HubertConfig.from_pretrained(folder / "hubert")
        cls = transformers.HubertForCTC if config.get("asr") else transformers.HubertModel
        model = opened(folder, cls, hubert, ("hubert.", "lm_head."))
        if audio and config.get("asr"):
            for path, theirs, ours in zip(audio, heard(model, folder, audio), predicted(folder, audio), strict=True):
                if theirs != ours:
                    raise Difference(f"{path.name}: transformers hears {theirs!r}, wavegate {ours!r}")
                print(f"  {path.name}: {ours}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--audio", nargs="*", type=Path, default=sorted((ROOT / "weights/default/clips").glob("*.wav")),
                        help="recordings of 16 kHz, mono, 16 bits (those of the model in the box)")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failed = 0
    for folder in options.folders:
        print(folder)
        try:
            check(folder, options.audio)
        except (Difference, OSError, KeyError) as error:
            failed += 1
            print(f"  differs: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
