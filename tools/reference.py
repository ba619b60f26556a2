#!/usr/bin/env python3
"""Write a reference CASE folder from PyTorch, for `wavegate validate CASE`.

Needs torch, transformers, safetensors and numpy; nothing of Wavegate itself.

  your own checkpoint (folder or hub name; sharded, .bin and .safetensors alike)
    python tools/reference.py --model facebook/hubert-large-ls960-ft --audio a.wav b.wav --out case
    python tools/reference.py --model ./my-hubert --seconds 3 --batch 2 --no-grad --hidden last --out case
    python tools/reference.py --model ./my-emotion-classifier --audio a.wav --out case
    python tools/reference.py --model bert-base-uncased --text "so tired of this" "great!" --out case
    python tools/reference.py --model ./my-bert --tokens 128 --adamw-steps 5 --out case

  seeded random weights, nothing to download
    python tools/reference.py --random hubert-large --seconds 3 --batch 1 --no-grad --out case
    python tools/reference.py --random hubert-tiny-stable --seed 7 --out case
    python tools/reference.py --random ops --seed 7 --out case
    python tools/reference.py --random las --seed 7 --out case
    python tools/reference.py --random pretraining --seed 7 --out case   (HuBERT's masked prediction, and MFCC)
    python tools/reference.py --random e2e-full --seconds 2 --batch 2 --grad-norm-only --out case
    python tools/reference.py --random e2e-tiny --audio a.wav --no-grad --out model   (a Wavegate model and its case)
    python tools/reference.py --random hubert-large --layers 2 --no-grad --autocast float16 --out case

  a Wavegate model folder: speech, the words it decodes, and the emotion
    python tools/reference.py --model weights/default --audio a.wav --no-grad --no-model --out weights/default/reference

A case holds config.json, model.safetensors, inputs.safetensors, outputs.safetensors (PyTorch float32),
outputs_f64.safetensors (the same model in float64: the truth) and case.json, which says how far PyTorch's
own float32 is from float64, tensor by tensor. Gradients are of `loss`, which case.json defines. With --autocast
outputs.safetensors is what torch.autocast computes: what `wavegate validate --activations f16` is to be set beside.

One file on purpose, long as it is: it can be copied alone to wherever the checkpoint and its PyTorch are.
"""
import argparse
import contextlib
import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import BertWordPieceTokenizer
from torch import nn

F64_STAYS = ("loss", "loss_per_sample", "logits", "last_hidden_state", "pooler_output",
             "acoustic_hidden", "text_hidden", "ctc_logits", "cmgi.logits", "ce", "ctc")
ONLY_F32 = re.compile(r"^(conv|attentions)\.\d+$")  # large, and implied by what follows them
RATE = 16000


class Failure(Exception):
    """What the user asked for cannot be done; the message says why."""


# ---------------------------------------------------------------------------------------------- the case folder


class Case:
    """A case folder, written beside its destination and moved there only when it is complete."""

    def __init__(self, out: Path, seed: int):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise Failure(f"Cannot write {out}: it exists already and is not an empty folder")
        self.out, self.dir = out, out.with_name(out.name + ".partial")
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        self.info = {"seed": seed, "versions": {"numpy": np.__version__, "torch": torch.__version__,
                                                "transformers": transformers.__version__}}

    def tensors(self, name: str, tensors: dict):
        seen, out = set(), {}
        for key, v in tensors.items():  # two names of one tensor are stored twice
            v = v.detach().contiguous()
            out[key] = v.clone() if v.data_ptr() in seen else v
            seen.add(v.data_ptr())
        save_file(out, self.dir / f"{name}.safetensors", metadata={"format": "pt"})

    def json(self, name: str, value: dict, indent=1, sort=True):
        text = json.dumps(value, indent=indent, sort_keys=sort)
        (self.dir / name).write_text(text + "\n")

    def outputs(self, name: str, f32: dict, f64: dict | None, store_f64=True):
        """Stores the float32 results, the float64 results, and the distance between the two."""
        self.tensors(name, f32)
        if f64 is None:
            return
        f64 = {k: v for k, v in f64.items() if not ONLY_F32.match(k)}
        self.info.setdefault("tolerance_f32_vs_f64", {})[name] = {
            k: {"max_abs": v.abs().max().item(), "max_abs_err": (f32[k].double() - v).abs().max().item(),
                "rms": v.square().mean().sqrt().item()}
            for k, v in f64.items() if v.is_floating_point()}
        if store_f64:
            self.tensors(f"{name}_f64", {k: v if k in F64_STAYS or not v.is_floating_point() else v.float()
                                         for k, v in f64.items()})

    def finish(self, with_info=True):
        if with_info:
            self.json("case.json", self.info)
        if self.out.exists():
            self.out.rmdir()
        self.dir.rename(self.out)

    def abandon(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def saved_name(key: str, parametrized=False) -> str:
    """The key under which weight normalisation is saved: weight_g/weight_v, or the newer parametrizations."""
    pairs = (("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1"))
    for old, new in pairs:
        key = re.sub(rf"\.{re.escape(old if parametrized else new)}$", f".{new if parametrized else old}", key)
    return key


def state_of(model, parametrized=False) -> dict:
    return {saved_name(k, parametrized): v for k, v in model.state_dict().items()}


def parameters_of(model) -> dict:
    return {saved_name(k): p for k, p in model.named_parameters()}


# --------------------------------------------------------------------------------------------- seeded weights


def randomize(model, seed: int):
    """Seeded weights that leave nothing trivial: norm weights are not 1, biases not 0, attention is not flat."""
    g = torch.Generator().manual_seed(seed)
    state = state_of(model)
    with torch.no_grad():
        for key, p in state.items():
            p.copy_(torch.randn(p.shape, generator=g).mul_(spread(key, p)).add_(center(key, p)))
        for key, v in state.items():
            if key.endswith("weight_v"):
                gain = state[key[:-1] + "g"]
                norm = v.norm(dim=[d for d in range(v.dim()) if gain.shape[d] == 1], keepdim=True)
                gain.mul_(norm)
    return model


def center(key: str, p) -> float:
    return 1.0 if key.endswith("weight_g") or (p.dim() == 1 and key.endswith("weight")) else 0.0


def spread(key: str, p) -> float:
    if key.endswith("weight_g"):
        return 0.2
    if key.endswith("masked_spec_embed") or re.search(r"_embeddings\.weight$", key):
        return 0.5
    if p.dim() == 1:
        return 0.2 if key.endswith("weight") else 0.1
    gain = 1.3 if re.search(r"(q_proj|k_proj|query|key|w_q|w_k|lm_head)\.weight$", key) else 1.0
    if key.endswith("conv.weight"):
        gain = 1.5
    return gain / math.sqrt(p[0].numel())


LARGE = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
             conv_bias=True, feat_extract_norm="layer", do_stable_layer_norm=True)
TINY = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, conv_dim=[32] * 7,
            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
STABLE = dict(conv_bias=True, feat_extract_norm="layer", do_stable_layer_norm=True)
QUIET = dict(activation_dropout=0.0, attention_dropout=0.0, hidden_dropout=0.0, feat_proj_dropout=0.0,
             final_dropout=0.0, layerdrop=0.0, apply_spec_augment=False)
TINY_BERT = dict(vocab_size=1000, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
                 max_position_embeddings=64)
SPEECH_CLASSES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, conv_dim=[16] * 7,
                      num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, classifier_proj_size=12,
                      id2label=dict(enumerate(["neu", "hap", "ang", "sad", "fea"])))
QUIET_BERT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)

# name: (class, config, seconds or tokens, batch, AdamW steps, extra variants)
MODELS = {
    "hubert-large": ("HubertForCTC", LARGE, 3, 1, 0, ()),
    "hubert-base": ("HubertForCTC", {}, 3, 1, 0, ()),
    "wav2vec2-large": ("Wav2Vec2ForCTC", LARGE, 3, 1, 0, ()),
    "hubert-tiny-stable": ("HubertForCTC", {**TINY, **STABLE}, 0.6, 2, 5, ("parametrized", "spec")),
    "hubert-tiny-base": ("HubertForCTC", {**TINY, "ctc_loss_reduction": "mean"}, 0.6, 2, 0, ("masked",)),
    "wav2vec2-tiny-stable": ("Wav2Vec2ForCTC", {**TINY, **STABLE, "ctc_loss_reduction": "mean",
                                                "ctc_zero_infinity": True}, 0.5, 2, 0, ()),
    "hubert-tiny-seqcls": ("HubertForSequenceClassification", {**SPEECH_CLASSES, **STABLE, "use_weighted_layer_sum": True},
                           0.4, 3, 5, ()),
    "wav2vec2-tiny-seqcls": ("Wav2Vec2ForSequenceClassification", SPEECH_CLASSES, 0.4, 2, 0, ("masked",)),
    "bert-base": ("BertModel", {}, 128, 1, 0, ()),
    "bert-tiny": ("BertModel", TINY_BERT, 23, 3, 0, ("legacy",)),
    "bert-tiny-seqcls": ("BertForSequenceClassification", {**TINY_BERT, "num_labels": 4}, 19, 4, 5, ()),
}
FUSION = ("cmgi", "e2e-tiny", "e2e-full", "las", "pretraining")


def random_model(name: str, seed: int, layers: int | None = None):
    cls, settings = MODELS[name][:2]
    if layers:
        settings = {**settings, "num_hidden_layers": layers}
    cls = getattr(transformers, cls)
    config = cls.config_class(**settings, **(QUIET_BERT if name.startswith("bert") else QUIET))
    return eager(cls, config, seed)


def eager(cls, config, seed: int, **options):
    """Builds a model whose attention returns its probabilities."""
    config._attn_implementation = "eager"
    model = randomize(cls(config, **options), seed).eval()
    config.architectures, config.dtype = [cls.__name__], "float32"
    return model


def load_model(source: str):
    """Any HuBERT, wav2vec2 or BERT checkpoint, in float32, with the head it was saved with if we have a use for it."""
    try:
        config = transformers.AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise Failure(f"Cannot read the model {source}: {str(error).splitlines()[0]}") from None
    if config.model_type not in ("hubert", "wav2vec2", "bert"):
        raise Failure(f"Cannot use {source}: model_type is {config.model_type!r}, it should be hubert, wav2vec2 or bert")
    saved = (getattr(config, "architectures", None) or ["?"])[0]
    family = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "bert": "Bert"}[config.model_type]
    heads = ["ForSequenceClassification"] + ([] if config.model_type == "bert" else ["ForCTC"])
    cls = getattr(transformers, family + next((head for head in heads if saved.endswith(head)), "Model"))
    if cls.__name__ != saved:
        print(f"reference: {source} was saved as {saved}; using its {cls.__name__}", file=sys.stderr)
    model, report = cls.from_pretrained(source, attn_implementation="eager", output_loading_info=True)
    missing = {k for k in report["missing_keys"] if not k.endswith("masked_spec_embed")}
    if missing and all("pooler." in k for k in missing) and cls is transformers.BertModel:
        model = cls.from_pretrained(source, attn_implementation="eager", add_pooling_layer=False)
    elif missing:
        raise Failure(f"Cannot use {source}: the checkpoint lacks {', '.join(sorted(missing)[:4])}")
    model = model.float().eval()
    model.config.architectures, model.config.dtype = [cls.__name__], "float32"
    return model


def preprocessor_of(source: str | None, config) -> dict:
    """The feature extractor's settings; a model with a group-norm stack was trained without attention mask."""
    settings = {"do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1,
                "padding_side": "right", "padding_value": 0.0, "sampling_rate": RATE,
                "return_attention_mask": config.feat_extract_norm == "layer"}
    if source:
        try:
            settings.update(transformers.Wav2Vec2FeatureExtractor.from_pretrained(source).to_dict())
        except (OSError, ValueError):
            print(f"reference: {source} has no preprocessor_config.json; audio is normalised, attention_mask is "
                  f"{'' if settings['return_attention_mask'] else 'not '}passed", file=sys.stderr)
    return settings


# ------------------------------------------------------------------------------------------------------ inputs


def read_wav(path: str) -> np.ndarray:
    """Samples of a PCM or float WAV at 16 kHz, channels averaged, full scale = 1."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Failure(f"Cannot read {path}: {error.strerror}") from None
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise Failure(f"Cannot read {path}: it is not a WAV file")
    chunks, at = {}, 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4:at + 8], "little")
        chunks.setdefault(data[at:at + 4], data[at + 8:at + 8 + size])
        at += 8 + size + size % 2
    if b"fmt " not in chunks or b"data" not in chunks:
        raise Failure(f"Cannot read {path}: it has no fmt or no data chunk")
    fmt = chunks[b"fmt "]
    code, channels = np.frombuffer(fmt, "<u2", 2)
    rate, bits = np.frombuffer(fmt, "<u4", 1, 4)[0], np.frombuffer(fmt, "<u2", 1, 14)[0]
    if code == 0xFFFE:  # extensible: the code proper opens the sub-format
        code = np.frombuffer(fmt, "<u2", 1, 24)[0]
    if rate != RATE:
        raise Failure(f"Cannot use {path}: its rate is {rate} Hz, it should be {RATE} (resample it first)")
    body, width = chunks[b"data"], bits // 8
    body = body[:len(body) // (width * channels) * width * channels]
    if code == 3 and bits in (32, 64):
        x = np.frombuffer(body, f"<f{width}").astype(np.float64)
    elif code == 1 and bits == 8:
        x = (np.frombuffer(body, "u1").astype(np.float64) - 128) / 128
    elif code == 1 and bits in (16, 24, 32):
        wide = np.zeros((len(body) // width, 4), "u1")  # the sample in the high bytes of an int32
        wide[:, 4 - width:] = np.frombuffer(body, "u1").reshape(-1, width)
        x = wide.view("<i4")[:, 0] / 2.0**31
    else:
        raise Failure(f"Cannot read {path}: format {code} with {bits} bits is neither PCM nor float")
    return x.reshape(-1, channels).mean(1).astype(np.float32)


def synthetic_audio(rng, samples: int) -> np.ndarray:
    t = np.arange(samples) / RATE
    x = 0.03 + 0.03 * rng.standard_normal(samples)
    for _ in range(3):
        x += 0.05 * np.sin(2 * np.pi * (rng.uniform(80, 3000) * t + rng.uniform()))
    return x.astype(np.float32)


def lengths_for(rng, longest: int, batch: int, exact: bool) -> list[int]:
    """The longest, then shorter ones; unless `exact`, even the longest is moved to some odd size."""
    if not exact:
        longest -= int(rng.integers(0, max(1, longest // 5)))
    return [longest] + [int(rng.integers(max(1, longest * 2 // 5), longest)) for _ in range(batch - 1)]


def acoustic_inputs(raw: list[np.ndarray], normalize: bool) -> dict:
    """input_values (B, T): each utterance to zero mean and unit variance, then padded with zeros."""
    T = max(map(len, raw))
    values, mask = torch.zeros(len(raw), T), torch.zeros(len(raw), T, dtype=torch.long)
    for i, x in enumerate(raw):
        y = (x - x.mean()) / np.sqrt(x.var() + 1e-7) if normalize else x
        values[i, :len(x)], mask[i, :len(x)] = torch.from_numpy(y), 1
    return {"input_values": values, "attention_mask": mask}


def ctc_labels(rng, frames: list[int], config) -> torch.Tensor:
    """Random labels (B, S), -100 behind the end, with a repeated label where there is room for one."""
    blank = config.pad_token_id
    symbols = [v for v in range(1, config.vocab_size) if v != blank]
    rows = []
    for n in frames:
        row = rng.choice(symbols, size=max(1, min(12, n // 3) - int(rng.integers(0, 4))))
        if len(row) > 3:
            row[2] = row[1]
        rows.append(row)
    labels = torch.full((len(rows), max(map(len, rows))), -100)
    for i, row in enumerate(rows):
        labels[i, :len(row)] = torch.from_numpy(row)
    return labels


def text_inputs(rng, lengths: list[int], vocab: int, segments: int) -> dict:
    """Random token ids with a repeated pair, two segments in each text, padding id 0."""
    T = max(lengths)
    ids, mask, kind = (torch.zeros(len(lengths), T, dtype=torch.long) for _ in range(3))
    for i, n in enumerate(lengths):
        ids[i, :n], mask[i, :n] = torch.from_numpy(rng.integers(1, vocab, n)), 1
        if n > 3:
            ids[i, 3] = ids[i, 2]
        if segments > 1:
            kind[i, n // 2:n] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kind}


def tokenized(source: str, text: list[str], limit: int) -> dict:
    encoded = transformers.AutoTokenizer.from_pretrained(source)(text, padding=True, truncation=True,
                                                                 max_length=limit, return_tensors="pt")
    encoded.setdefault("token_type_ids", torch.zeros_like(encoded["input_ids"]))
    return {k: encoded[k] for k in ("input_ids", "attention_mask", "token_type_ids")}


# --------------------------------------------------------------------------------------------- forward passes


class Trace:
    """Keeps what the stages of a model put out, by forward hooks; torch may overwrite some of it later, so copies."""

    def __init__(self):
        self.tensors, self.hooks, self.results = {}, [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    def keep(self, name, value):
        self.tensors[name] = value.detach().clone()

    def output(self, module, name):
        def hook(_module, _args, out):
            self.keep(name, out[0] if isinstance(out, tuple) else out)
        self.hooks.append(module.register_forward_hook(hook))

    def input(self, module, name):
        def hook(_module, args, kwargs):
            self.keep(name, args[0] if args else kwargs["hidden_states"])
        self.hooks.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def layers(self, layers, hidden: str):
        for i, layer in enumerate(layers):
            if hidden == "all":
                self.input(layer, f"hidden_states.{i}")


def ctc(logits, labels, frames, config, reduction):
    """log_softmax in the type of the logits (transformers itself always takes float32)."""
    real = labels >= 0
    if logits.dtype in (torch.float16, torch.bfloat16):  # as transformers does, and autocast on CUDA
        logits = logits.float()
    return F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), labels[real], frames, real.sum(-1),
                      blank=config.pad_token_id, reduction=reduction, zero_infinity=config.ctc_zero_infinity)


def classifies(model) -> bool:
    """Whether a speech model names one of its labels for each recording."""
    return hasattr(model, "projector")


def run_acoustic(model, inputs: dict, want, masked: bool) -> tuple[dict, torch.Tensor | None]:
    """One forward pass of a HuBERT or wav2vec2 model: its stages by name, and the loss if it has labels."""
    base, config = model.base_model, model.config
    mask = inputs["attention_mask"] if masked else None
    with Trace() as trace:
        if "conv" in want:
            for i, block in enumerate(base.feature_extractor.conv_layers):
                trace.output(block, f"conv.{i}")
        if "stages" in want:
            trace.output(base.feature_extractor, "extract_features")
            trace.output(base.feature_projection, "feat_proj")
            trace.output(base.encoder.pos_conv_embed, "pos_conv")
            trace.output(base.encoder.layers[-1], "last_layer_raw")
        trace.layers(base.encoder.layers, want["hidden"])
        if classifies(model):  # as a whole, since the class itself chooses what it averages
            hook = base.register_forward_hook(lambda _module, _args, result: trace.results.append(result))
            logits = model(inputs["input_values"], attention_mask=mask, output_attentions="attentions" in want).logits
            hook.remove()
            out = trace.results[0]
        else:
            out = base(inputs["input_values"], attention_mask=mask, output_attentions="attentions" in want)
    found, last = trace.tensors, out.last_hidden_state
    if "extract_features" in found:
        found["extract_features"] = found["extract_features"].transpose(1, 2).contiguous()
    B, T = last.shape[:2]
    counted = mask if mask is not None else torch.ones_like(inputs["attention_mask"])
    frames = base._get_feat_extract_output_lengths(counted.sum(-1)).long()
    found["output_lengths"] = frames
    if mask is not None:
        found["feature_attention_mask"] = base._get_feature_vector_attention_mask(T, mask).long()
    found["last_hidden_state"] = last
    if want["hidden"] == "all":
        found[f"hidden_states.{config.num_hidden_layers}"] = last
    for i, p in enumerate(out.attentions or ()):
        found[f"attentions.{i}"] = p
    loss = None
    if hasattr(model, "lm_head"):
        found["logits"] = logits = model.lm_head(last)
        found["loss_per_sample"] = ctc(logits, inputs["labels"], frames, config, "none")
        found["loss"] = loss = ctc(logits, inputs["labels"], frames, config, config.ctc_loss_reduction)
    elif classifies(model):
        found["logits"] = logits
        found["loss"] = loss = F.cross_entropy(logits, inputs["labels"])
    elif "cotangent.last_hidden_state" in inputs:
        found["loss"] = loss = (last * inputs["cotangent.last_hidden_state"]).sum()
    return found, loss


def run_spec(model, inputs: dict) -> tuple[dict, torch.Tensor]:
    """The base model with the frames of mask_time_indices replaced by masked_spec_embed, as in SpecAugment."""
    base, before = model.base_model, model.config.apply_spec_augment
    model.config.apply_spec_augment = True
    last = base(inputs["input_values"], attention_mask=inputs["attention_mask"],
                mask_time_indices=inputs["mask_time_indices"].bool()).last_hidden_state
    model.config.apply_spec_augment = before
    loss = (last * inputs["cotangent.last_hidden_state"]).sum()
    return {"last_hidden_state": last, "loss": loss}, loss


def run_bert(model, inputs: dict, want) -> tuple[dict, torch.Tensor | None]:
    base = model.base_model
    with Trace() as trace:
        if "stages" in want:
            trace.output(base.embeddings, "embeddings")
        trace.layers(base.encoder.layer, want["hidden"])
        out = base(**{k: inputs[k] for k in ("input_ids", "attention_mask", "token_type_ids")},
                   output_attentions="attentions" in want)
    found = trace.tensors
    found["last_hidden_state"] = last = out.last_hidden_state
    if want["hidden"] == "all":
        found[f"hidden_states.{model.config.num_hidden_layers}"] = last
    for i, p in enumerate(out.attentions or ()):
        found[f"attentions.{i}"] = p
    loss = None
    if base.pooler is not None:
        found["pooler_output"] = out.pooler_output
    if hasattr(model, "classifier"):
        found["logits"] = model.classifier(out.pooler_output)
        found["loss"] = loss = F.cross_entropy(found["logits"], inputs["labels"])
    else:
        parts = [(found[k[10:]] * v).sum() for k, v in inputs.items() if k.startswith("cotangent.")]
        if parts:
            found["loss"] = loss = sum(parts)
    return found, loss


# --------------------------------------------------------------------------------------- gradients, optimizer


def cast(inputs: dict, dtype) -> dict:
    return {k: v.detach().to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}


def evaluate(model, inputs: dict, run, dtype, grad: bool, leaves=()) -> dict:
    """Runs `run(inputs)` in dtype; with grad, adds grad.<parameter> and grad_input.<leaf>."""
    model.to(dtype)
    inputs = cast(inputs, dtype)
    if not grad:
        with torch.no_grad():
            return run(inputs)[0]
    model.zero_grad(set_to_none=True)
    for leaf in leaves:
        inputs[leaf].requires_grad_()
    found, loss = run(inputs)
    loss.backward()
    found = {k: v.detach() for k, v in found.items()}
    found.update({f"grad.{k}": p.grad for k, p in parameters_of(model).items() if p.grad is not None})
    found.update({f"grad_input.{k}": inputs[k].grad for k in leaves})
    for p in model.parameters():
        p.grad = None  # the tensors stay in `found`
    return found


def trajectory(model, inputs: dict, run, steps: int) -> dict:
    """Losses of AdamW steps on one batch, in float32 and float64; the model is left as it was, in float32."""
    model.float()
    start = {k: v.clone() for k, v in model.state_dict().items()}
    result = {"optimizer": "AdamW", "lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-08, "weight_decay": 0.01,
              "note": "weight decay applied to every parameter; same batch each step; loss[i] is before update i"}
    for dtype, tag in ((torch.float32, "f32"), (torch.float64, "f64")):
        model.load_state_dict(start)
        model.to(dtype)
        batch = cast(inputs, dtype)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.01)
        losses, norms = [], []
        for step in range(steps + 1):
            optimizer.zero_grad()
            loss = run(batch)[1]
            loss.backward()
            losses.append(loss.item())
            norms.append(grad_norm(model))
            if step < steps:
                optimizer.step()
        result[f"loss_{tag}"] = losses
    result["grad_norm_f64"] = norms
    model.float().load_state_dict(start)
    model.zero_grad(set_to_none=True)
    return result


def grad_norm(model) -> float:
    return math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters() if p.grad is not None))


# ------------------------------------------------------------------------------------- cases of a single model


def wanted(options) -> dict:
    """The groups of outputs to keep; `hidden` says which hidden states."""
    groups = set(options.outputs.split(","))
    known = {"all", "conv", "attentions", "stages", "hidden", "logits", "loss"}
    if groups - known:
        raise Failure(f"Cannot keep the outputs {', '.join(sorted(groups - known))}: the groups are {', '.join(sorted(known))}")
    if "all" in groups:
        groups = known
    hidden = options.hidden if "hidden" in groups else "last"
    return {**{g: True for g in groups}, "hidden": hidden}


def acoustic_case(case: Case, model, options, source=None):
    config, rng = model.config, np.random.default_rng(options.seed)
    variants, grad, want = options.variants, not options.no_grad, wanted(options)
    settings = preprocessor_of(source, config)
    if options.audio:
        raw = [read_wav(p) for p in options.audio]
    else:
        lengths = lengths_for(rng, round(options.seconds * RATE), options.batch, options.exact)
        raw = [synthetic_audio(rng, n) for n in lengths]
    inputs = acoustic_inputs(raw, settings["do_normalize"])
    masked = bool(settings.get("return_attention_mask"))
    lengths = torch.tensor([len(x) for x in raw])
    base = model.base_model
    frames = base._get_feat_extract_output_lengths(lengths).tolist()
    if min(frames) < 1:
        raise Failure(f"Cannot use audio of {lengths.min()} samples: it is shorter than one frame")
    T = base._get_feat_extract_output_lengths(lengths.max()).item()
    info = case.info
    info.update(lengths=lengths.tolist(), outputs={"attention_mask_passed": masked})
    info["description"] = (f"{type(model).__name__}, " + ("LARGE family (pre-LN encoder" if config.do_stable_layer_norm
                           else "BASE family (post-LN encoder") + f", {config.feat_extract_norm}-norm conv stack"
                           + f", {'' if config.conv_bias else 'no '}conv bias); "
                           + ("attention_mask passed" if masked else "outputs = no attention_mask passed"))
    cotangent = torch.from_numpy(rng.standard_normal((len(raw), T, config.hidden_size)).astype(np.float32))
    if hasattr(model, "lm_head"):
        inputs["labels"] = ctc_labels(rng, frames, config)
        info.update(blank=config.pad_token_id, ctc_loss_reduction=config.ctc_loss_reduction,
                    ctc_zero_infinity=config.ctc_zero_infinity, label_lengths=(inputs["labels"] >= 0).sum(-1).tolist())
    elif classifies(model):
        inputs["labels"] = torch.from_numpy(rng.integers(0, config.num_labels, len(raw)))
        info["loss"] = "mean cross entropy over the batch"
    elif grad:
        inputs["cotangent.last_hidden_state"] = cotangent
        info["loss"] = "sum(last_hidden_state*cotangent.last_hidden_state); padded positions are included in the sum"
    if "spec" in variants:
        inputs["cotangent.last_hidden_state"] = cotangent
        inputs["mask_time_indices"] = torch.zeros(len(raw), T, dtype=torch.long)
        for i, n in enumerate(frames):
            for start in rng.integers(0, max(1, n - 6), 2):
                inputs["mask_time_indices"][i, start:min(start + 6, n)] = 1
        info["outputs_spec"] = ("base model only, frames in mask_time_indices replaced by masked_spec_embed after "
                                "feature_projection; loss = sum(last_hidden_state*cotangent)")

    case.tensors("inputs", {**inputs, **{f"raw.{i}": torch.from_numpy(x) for i, x in enumerate(raw)}})
    case.json("preprocessor_config.json", settings)
    write_model(case, model, options)
    runs = {"outputs": (lambda x: run_acoustic(model, x, want, masked), ("input_values",), True)}
    if "masked" in variants and not masked:
        info["outputs_masked"] = {"attention_mask_passed": True}
        runs["outputs_masked"] = (lambda x: run_acoustic(model, x, {k: v for k, v in want.items() if k != "conv"}, True), ("input_values",), False)
    if "spec" in variants:
        runs["outputs_spec"] = (lambda x: run_spec(model, x), (), False)
    write_outputs(case, model, inputs, runs, options)


def bert_case(case: Case, model, options, source=None):
    config, rng = model.config, np.random.default_rng(options.seed)
    want = wanted(options)
    if options.text:
        inputs = tokenized(source, options.text, config.max_position_embeddings)
    else:
        tokens = min(round(options.tokens), config.max_position_embeddings)
        inputs = text_inputs(rng, lengths_for(rng, tokens, options.batch, options.exact), config.vocab_size,
                             config.type_vocab_size)
    B, T = inputs["input_ids"].shape
    info = case.info
    info["lengths"] = inputs["attention_mask"].sum(-1).tolist()
    if hasattr(model, "classifier"):
        inputs["labels"] = torch.from_numpy(rng.integers(0, config.num_labels, B))
        info.update(description="BertForSequenceClassification (bert. prefix)", loss="mean cross entropy over the batch")
    else:
        info["description"] = "BertModel (no prefix in key names)"
        names = ["last_hidden_state"] + (["pooler_output"] if model.pooler is not None else [])
        shapes = {"last_hidden_state": (B, T, config.hidden_size), "pooler_output": (B, config.hidden_size)}
        if not options.no_grad:
            for name in names:
                inputs[f"cotangent.{name}"] = torch.from_numpy(rng.standard_normal(shapes[name]).astype(np.float32))
            info["loss"] = ("+".join(f"sum({n}*cotangent.{n})" for n in names)
                            + "; padded positions are included in the sum")
    case.tensors("inputs", inputs)
    write_model(case, model, options)
    if "legacy" in options.variants:
        case.tensors("model.legacy", legacy_bert(model, options.seed))
    write_outputs(case, model, inputs, {"outputs": (lambda x: run_bert(model, x, want), (), True)}, options)


def legacy_bert(model, seed: int) -> dict:
    """The same numbers under the names of 2018: bert. prefix, gamma/beta, position_ids, pre-training heads."""
    g, c = torch.Generator().manual_seed(seed + 1), model.config
    old = {"bert." + k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in model.state_dict().items()}
    old["bert.embeddings.position_ids"] = torch.arange(c.max_position_embeddings)[None]
    head = {"predictions.bias": (c.vocab_size,), "predictions.transform.LayerNorm.beta": (c.hidden_size,),
            "predictions.transform.LayerNorm.gamma": (c.hidden_size,), "predictions.transform.dense.bias": (c.hidden_size,),
            "predictions.transform.dense.weight": (c.hidden_size,) * 2, "seq_relationship.bias": (2,),
            "seq_relationship.weight": (2, c.hidden_size)}
    return old | {f"cls.{k}": 0.1 * torch.randn(shape, generator=g) for k, shape in head.items()}


def write_model(case: Case, model, options):
    (case.dir / "config.json").write_text(model.config.to_json_string())
    case.tensors("model", state_of(model, options.keys == "parametrized"))
    if "parametrized" in options.variants:
        case.tensors("model.parametrized", state_of(model, True))


def write_outputs(case: Case, model, inputs: dict, runs: dict, options):
    grad = not options.no_grad
    if grad and options.adamw_steps:
        case.info["train_trajectory"] = trajectory(model, inputs, runs["outputs"][0], options.adamw_steps)
    half = options.autocast and getattr(torch, options.autocast)
    with torch.autocast("cpu", dtype=half) if half else contextlib.nullcontext():
        f32 = {name: evaluate(model, inputs, run, torch.float32, grad, leaves) for name, (run, leaves, _) in runs.items()}
    if half:
        case.info["autocast"] = options.autocast
        f32 = {name: {k: v.float() if v.is_floating_point() else v for k, v in run.items()} for name, run in f32.items()}
    if grad:
        for name in f32:
            without = [k for k in parameters_of(model) if f"grad.{k}" not in f32[name]]
            if isinstance(case.info.get(name), dict):
                case.info[name]["params_without_grad"] = without
            elif name == "outputs":
                case.info["params_without_grad"] = without
    for name, (run, leaves, store) in runs.items():
        f64 = None if options.no_f64 else evaluate(model, inputs, run, torch.float64, grad, leaves)
        case.outputs(name, f32.pop(name), f64, store)


# ------------------------------------------------------------------- the fusion head, and the system as a whole


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d / heads)) V, padded keys at -inf; no biases, no projection behind."""

    def __init__(self, d: int, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.w_q, self.w_k, self.w_v = (nn.Linear(width, d, bias=False) for _ in range(3))

    def forward(self, query, other, mask):
        def split(x):
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = split(self.w_q(query)), split(self.w_k(other)), split(self.w_v(other))
        score = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        found = score.masked_fill(mask[:, None, None] == 0, -math.inf).softmax(-1) @ v
        return found.transpose(1, 2).flatten(2)


class Fusion(nn.Module):
    """Cross-modal gated interaction: self-attention, cross-attention, gate, masked mean, classifier; and what stands beside it."""

    def __init__(self, d: int, d_s: int, d_t: int, num_classes: int = 4, bounded=False, heads=1, interaction="cmgi",
                 gate="temporal"):
        super().__init__()
        self.bounded, self.interaction, self.kind = bounded, interaction, gate
        self.sa_s, self.sa_t = Attention(d, d_s, heads), Attention(d, d_t, heads)
        if interaction != "self":
            self.ca_s, self.ca_t = Attention(d, d, heads), Attention(d, d, heads)
        if gate == "modal":
            self.gate = nn.Linear(2 * d, d)
        else:
            self.gate_s, self.gate_t = nn.Linear(2 * d, d), nn.Linear(2 * d, d)
        self.classifier = nn.Linear((4 if interaction == "cmgi" else 2) * d, num_classes)

    def weigh(self, f, a, b):
        """G of a and b."""
        both = torch.cat([a, b], -1)
        return f(both).sigmoid() if self.bounded else f(both.sigmoid())

    def forward(self, x_s, x_t, mask_s, mask_t) -> dict:
        s, t = self.sa_s(x_s, x_s, mask_s), self.sa_t(x_t, x_t, mask_t)
        found = {"s_s": s, "s_t": t}
        if self.interaction != "self":
            found.update(c_s=self.ca_s(s, t, mask_t), c_t=self.ca_t(t, s, mask_s))
        for b, own, mask in (("s", s, mask_s), ("t", t, mask_t)):
            real = mask[..., None].to(own.dtype)
            out = cross = found.get(f"c_{b}", own)
            if self.interaction == "cmgi":
                sides = [own, cross]
                if self.kind == "pooled":
                    sides = [((x * real).sum(1) / real.sum(1))[:, None] for x in sides]
                found[f"gate_{b}"] = gate = self.weigh(getattr(self, f"gate_{b}"), *sides)
                found[f"output_{b}"] = out = torch.cat([own * gate, cross * (1 - gate)], -1)
            found[f"pooled_{b}"] = (out * real).sum(1) / real.sum(1)
        features = torch.cat([found["pooled_s"], found["pooled_t"]], -1)
        if self.kind == "modal":
            gate = self.weigh(self.gate, found["pooled_s"], found["pooled_t"])
            # What the definition says, over all frames and subwords, though the means of the products are weighed means.
            sides = [(x * g[:, None] * m[..., None].to(x.dtype)).sum(1) / m[..., None].to(x.dtype).sum(1) for x, g, m in (
                (found.get("c_s", s), gate, mask_s), (found.get("c_t", t), 1 - gate, mask_t))]
            found.update(gate_s=gate[:, None], gate_t=1 - gate[:, None])
            found["fused"] = features = torch.cat(sides, -1)
        found["logits"] = self.classifier(features)
        return found


class Recognizer(nn.Module):
    """HuBERT with a CTC head, BERT, and the fusion of the two; loss = CE + ctc_lambda CTC."""

    def __init__(self, hubert, bert, widths: dict, ctc_lambda: float):
        super().__init__()
        hubert._attn_implementation = bert._attn_implementation = "eager"
        self.hubert = transformers.HubertModel(hubert)
        self.bert = transformers.BertModel(bert, add_pooling_layer=False)
        self.cmgi, self.lm_head = Fusion(**widths), nn.Linear(hubert.hidden_size, hubert.vocab_size)
        self.ctc_lambda = ctc_lambda

    def listen(self, inputs: dict, conv: bool) -> dict:
        with Trace() as trace:
            if conv:
                for i, block in enumerate(self.hubert.feature_extractor.conv_layers):
                    trace.output(block, f"conv.{i}")
                trace.output(self.hubert.feature_projection, "feat_proj")
                trace.output(self.hubert.encoder.pos_conv_embed, "pos_conv")
            hidden = self.hubert(inputs["input_values"], inputs["attention_mask"]).last_hidden_state
        return {**trace.tensors, "acoustic_hidden": hidden}

    def run(self, inputs: dict, conv=False) -> tuple[dict, torch.Tensor]:
        found, config = self.listen(inputs, conv), self.hubert.config
        x_s = found["acoustic_hidden"]
        x_t = found["text_hidden"] = self.bert(inputs["input_ids"], inputs["text_mask"],
                                               inputs["token_type_ids"]).last_hidden_state
        mask_s = self.hubert._get_feature_vector_attention_mask(x_s.shape[1], inputs["attention_mask"]).long()
        found.update({f"cmgi.{k}": v for k, v in self.cmgi(x_s, x_t, mask_s, inputs["text_mask"]).items()})
        found["ctc_logits"] = self.lm_head(x_s)
        found["ce"] = F.cross_entropy(found["cmgi.logits"], inputs["emotion"])
        found["ctc"] = ctc(found["ctc_logits"], inputs["labels"], mask_s.sum(-1), config, "mean")
        found["loss"] = found["ce"] + self.ctc_lambda * found["ctc"]
        return found, found["loss"]


def cmgi_case(case: Case, options):
    rng = np.random.default_rng(options.seed)
    d, d_s, d_t = options.widths or (int(n) for n in rng.integers((5, 17, 11), (24, 60, 50)))
    widths = {"d": d, "d_s": d_s, "d_t": d_t, "num_classes": 4}
    chosen = {"interaction": options.interaction, "gate": options.gate, "bounded": options.bounded or None}
    widths.update({k: v for k, v in chosen.items() if v is not None})
    if (options.gate == "modal") != (options.interaction in ("self", "cross")):
        raise Failure("Cannot make a fusion head: --interaction self or cross is gated by --gate modal, and by that alone")
    model, inputs = randomize(Fusion(**widths), options.seed), {}
    for b, width, longest, key in (("s", d_s, 19, "acoustic_lengths"), ("t", d_t, 11, "text_lengths")):
        lengths = lengths_for(rng, longest, options.batch, False)
        x = rng.standard_normal((options.batch, max(lengths), width)).astype(np.float32)
        inputs[f"x_{b}"] = torch.from_numpy(x)
        inputs[f"mask_{b}"] = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        case.info[key] = lengths
    inputs["labels"] = torch.from_numpy(rng.integers(0, 4, options.batch))

    def run(x):
        found = model(x["x_s"], x["x_t"], x["mask_s"], x["mask_t"])
        found["loss"] = F.cross_entropy(found["logits"], x["labels"])
        return found, found["loss"]

    case.json("config.json", widths)
    case.tensors("inputs", inputs)
    case.tensors("model", state_of(model))
    write_outputs(case, model, inputs, {"outputs": (run, ("x_s", "x_t"), True)}, options)
    case.info.pop("params_without_grad", None)


def random_system(options):
    """Recognizer with seeded weights, its CmGI settings, and the vocabularies of its CTC head and of its BERT."""
    full = options.random == "e2e-full"
    hubert = transformers.HubertConfig(**(LARGE if full else {**TINY, **STABLE, "num_hidden_layers": 2}), **QUIET)
    bert = transformers.BertConfig(**({} if full else {**TINY_BERT, "vocab_size": 200, "hidden_size": 48,
                                                       "num_hidden_layers": 2}), **QUIET_BERT)
    d = options.widths[0] if options.widths else 768 if full else 16
    widths = {"d": d, "d_s": hubert.hidden_size, "d_t": bert.hidden_size, "num_classes": 4}
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pairs = [f"##{c}{v}" for c in letters if c not in "aeiou" for v in "aeiou"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "'", *letters, *(f"##{c}" for c in letters), *pairs]
    pieces += [f"[unused{i}]" for i in range(bert.vocab_size - len(pieces))]
    return randomize(Recognizer(hubert, bert, widths, 0.1), options.seed).eval(), widths, CTC_TOKENS, pieces


CTC_TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]


def is_system(source: str) -> bool:
    path = Path(source) / "config.json"
    return path.is_file() and "cmgi" in json.loads(path.read_text())


def load_system(source: str):
    """The same of a Wavegate model folder."""
    folder = Path(source)
    config = json.loads((folder / "config.json").read_text())
    settings = config["cmgi"]
    fusion = settings.get("interaction", "cmgi"), settings.get("gate", "temporal")
    if fusion not in (("cmgi", "temporal"), ("cmgi", "pooled"), ("self", "modal"), ("cross", "modal")):
        raise Failure(f"Cannot use {source}: its cmgi has interaction {fusion[0]!r} and gate {fusion[1]!r}, which is not known here")
    known = ("d", "d_s", "d_t", "num_classes", "bounded", "heads", "interaction", "gate")
    widths = {k: settings[k] for k in known if k in settings}
    parts = [cls.from_dict(config[name]) for cls, name in ((transformers.HubertConfig, "hubert"),
                                                           (transformers.BertConfig, "bert"))]
    model = Recognizer(*parts, widths, config.get("ctc_lambda", config.get("alpha", 0.1))).eval()
    saved = {saved_name(k): v for k, v in load_file(folder / "model.safetensors").items()}
    missing = [saved_name(k) for k in model.state_dict() if saved_name(k) not in saved]
    if missing:
        raise Failure(f"Cannot use {source}: its weights lack {', '.join(missing[:4])}")
    model.load_state_dict({k: saved[saved_name(k)].float() for k in model.state_dict()})
    ids = json.loads((folder / "vocab.json").read_text())
    pieces = (folder / "vocab.txt").read_text().splitlines()
    return model, widths, sorted(ids, key=ids.get), pieces


def spoken(model, inputs: dict, tokens: list[str], pieces: list[str]) -> tuple[list[str], dict]:
    """The words that the CTC head writes, greedily decoded, and the ids that BERT reads of them."""
    with torch.no_grad():
        logits = model.lm_head(model.listen(inputs, False)["acoustic_hidden"])
    frames = model.hubert._get_feat_extract_output_lengths(inputs["attention_mask"].sum(-1)).tolist()
    texts = []
    for row, n in zip(logits.argmax(-1), frames):
        text = "".join(tokens[i] for i in torch.unique_consecutive(row[:n]).tolist() if not tokens[i].startswith("<"))
        texts.append(" ".join(text.replace("|", " ").split()))
    tokenizer = BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)})
    tokenizer.enable_truncation(model.bert.config.max_position_embeddings)
    rows = [tokenizer.encode(text).ids for text in texts]
    ids, mask = (torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long) for _ in range(2))
    for i, row in enumerate(rows):
        ids[i, :len(row)], mask[i, :len(row)] = torch.tensor(row), 1
    return texts, {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def e2e_case(case: Case, options):
    rng = np.random.default_rng(options.seed)
    model, widths, tokens, pieces = load_system(options.model) if options.model else random_system(options)
    hubert, bert = model.hubert.config, model.bert.config
    if options.audio:
        raw = [read_wav(p) for p in options.audio]
        lengths = [len(x) for x in raw]
    else:
        lengths = lengths_for(rng, round(options.seconds * RATE), options.batch, options.exact)
        raw = [synthetic_audio(rng, n) for n in lengths]
    settings = preprocessor_of(options.model, hubert)
    inputs = acoustic_inputs(raw, settings["do_normalize"])
    frames = model.hubert._get_feat_extract_output_lengths(torch.tensor(lengths)).tolist()
    if min(frames) < 1:
        raise Failure(f"Cannot use audio of {min(lengths)} samples: it is shorter than one frame")
    if options.audio:
        case.info["decoded"], text = spoken(model, inputs, tokens, pieces)
        case.info["audio"] = [Path(p).name for p in options.audio]
    else:
        rows = lengths_for(rng, round(options.tokens), len(raw), options.exact)
        text = text_inputs(rng, rows, bert.vocab_size, 2)
    inputs.update(input_ids=text["input_ids"], text_mask=text["attention_mask"], token_type_ids=text["token_type_ids"],
                  labels=ctc_labels(rng, frames, hubert), emotion=torch.from_numpy(rng.integers(0, 4, len(raw))))
    case.info["loss"] = ("cross_entropy(mean) + ctc_lambda * ctc(mean: each sample divided by its target length, "
                         "then batch mean)")
    parts = {name: json.loads(config.to_json_string()) for name, config in (("hubert", hubert), ("bert", bert))}
    config = {**parts, "cmgi": widths, "ctc_lambda": model.ctc_lambda, "blank": hubert.pad_token_id}
    if options.audio and not options.no_model:
        config.update(model_type="wavegate", modalities="both", asr=True, alpha=model.ctc_lambda,
                      labels=["angry", "happy", "sad", "neutral"])
        case.json("vocab.json", {token: i for i, token in enumerate(tokens)}, sort=False)
        (case.dir / "vocab.txt").write_text("\n".join(pieces) + "\n")
        case.json("preprocessor_config.json", settings)
    if not options.no_model:
        case.json("config.json", config)
        case.tensors("model", state_of(model, options.keys == "parametrized"))
    case.tensors("inputs", inputs)
    if options.grad_norm_only:
        found, loss = model.run(inputs)
        loss.backward()
        case.info.update(loss_f32=loss.item(), grad_norm_f32=grad_norm(model))
        case.tensors("outputs", {k: found[k] for k in ("loss", "ce", "ctc", "cmgi.logits")})
    else:
        conv = bool(options.audio)
        write_outputs(case, model, inputs, {"outputs": (lambda x: model.run(x, conv), (), True)}, options)
        case.info.pop("params_without_grad", None)


# -------------------------------------------------------------------------------------- listen, attend and spell


def mel_filters(mel: dict, dtype) -> torch.Tensor:
    """torchaudio.functional.melscale_fbanks (torchaudio is not needed: the definition stands here), bins x filters."""
    low, high = (to_mel(f, mel["mel_scale"]) for f in (mel["f_min"], mel["f_max"]))
    corners = to_hertz(torch.linspace(low, high, mel["n_mels"] + 2, dtype=torch.float64), mel["mel_scale"])
    f = torch.linspace(0, mel["sample_rate"] // 2, mel["n_fft"] // 2 + 1, dtype=torch.float64)
    widths, slopes = corners.diff(), corners[None] - f[:, None]
    down, up = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    filters = torch.minimum(down, up).clamp(min=0)
    if mel["norm"] == "slaney":
        filters = filters * (2 / (corners[2:] - corners[:-2]))
    return filters.to(dtype)


def to_mel(f: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + f / 700)
    return f / (200 / 3) if f < 1000 else 15 + math.log(f / 1000) / (math.log(6.4) / 27)


def to_hertz(m: torch.Tensor, scale: str) -> torch.Tensor:
    if scale == "htk":
        return 700 * (10 ** (m / 2595) - 1)
    return torch.where(m < 15, 200 / 3 * m, 1000 * torch.exp(math.log(6.4) / 27 * (m - 15)))


def log_mel(audio: torch.Tensor, mel: dict) -> torch.Tensor:
    """MelSpectrogram(power=2, center=False), the logarithm of torchaudio.transforms.MFCC(log_mels=True), and a scale."""
    window = torch.hann_window(mel["win_length"], dtype=audio.dtype)
    spectrum = torch.stft(audio, mel["n_fft"], mel["hop_length"], mel["win_length"], window, center=False,
                          return_complex=True).abs().square()
    found = spectrum.transpose(1, 2) @ mel_filters(mel, audio.dtype)
    return ((found + mel["log_offset"]).log() - mel["mel_mean"]) / mel["mel_std"]


MEL = dict(sample_rate=RATE, n_fft=512, win_length=400, hop_length=160, f_min=0.0, f_max=8000.0, n_mels=20, norm=None,
           mel_scale="htk", log_offset=1e-6, mel_mean=1.5, mel_std=4.0)
SLANEY = dict(MEL, n_fft=400, win_length=320, hop_length=200, f_min=60.0, f_max=7600.0, norm="slaney", mel_scale="slaney")
TINY_LAS = dict(hidden_size=6, encoder_layers=2, embedding_size=5, decoder_hidden_size=7, decoder_layers=2, attention_size=4,
                vocab_size=11)


class Pooling(nn.Module):
    """A mean over time, weighted by additive or dot scores."""

    def __init__(self, width: int, kind: str):
        super().__init__()
        self.kind = kind
        if kind == "additive":
            self.hidden, self.v = nn.Linear(width, width), nn.Linear(width, 1, bias=False)
        else:
            self.query = nn.Linear(width, 1, bias=False)

    def forward(self, x, mask):
        score = self.v(self.hidden(x).tanh()) if self.kind == "additive" else self.query(x) / math.sqrt(x.shape[-1])
        p = score[..., 0].masked_fill(mask == 0, -math.inf).softmax(-1)
        return p, (p[..., None] * x).sum(1)


def packed_lstm(lstm, x, lengths):
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class Listener(nn.Module):
    """Bidirectional LSTMs over log-mel frames; before each but the first two frames become one."""

    def __init__(self, c: dict):
        super().__init__()
        H, N = c["hidden_size"], c["mel"]["n_mels"]
        self.layers = nn.ModuleList(nn.LSTM(N if i == 0 else 4 * H, H, batch_first=True, bidirectional=True)
                                    for i in range(c["encoder_layers"]))

    def forward(self, x, lengths):
        for i, layer in enumerate(self.layers):
            if i:
                x = x[:, :x.shape[1] // 2 * 2].reshape(len(x), x.shape[1] // 2, -1)
                lengths = lengths // 2
            x = packed_lstm(layer, x, lengths)
        return x, lengths


class Attend(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        A = c["attention_size"]
        self.query_layer = nn.Linear(c["decoder_hidden_size"], A, bias=False)
        self.memory_layer, self.v = nn.Linear(2 * c["hidden_size"], A), nn.Linear(A, 1, bias=False)

    def forward(self, state, memory, mask):
        score = self.v((self.query_layer(state)[:, None] + self.memory_layer(memory)).tanh())[..., 0]
        p = score.masked_fill(mask == 0, -math.inf).softmax(-1)
        return p, (p[..., None] * memory).sum(1)


class Speller(nn.Module):
    """s_i = LSTM(s_i-1, y_i-1, c_i-1), c_i = attention(s_i, memory), p(y_i) = softmax(W concat(s_i, c_i) + b)."""

    def __init__(self, c: dict):
        super().__init__()
        V, H, M = c["vocab_size"] + 2, c["decoder_hidden_size"], 2 * c["hidden_size"]
        self.start, self.end = V - 2, V - 1
        self.embedding = nn.Embedding(V, c["embedding_size"])
        self.lstm = nn.LSTM(c["embedding_size"] + M, H, c["decoder_layers"], batch_first=True)
        self.attention, self.output = Attend(c), nn.Linear(H + M, V)

    def forward(self, memory, mask, inputs):
        context, state, steps = memory.new_zeros(len(memory), memory.shape[2]), None, []
        for y in inputs.T:
            s, state = self.lstm(torch.cat([self.embedding(y), context], -1)[:, None], state)
            p, context = self.attention(s[:, 0], memory, mask)
            steps.append((s[:, 0], p, self.output(torch.cat([s[:, 0], context], -1))))
        return [torch.stack(list(each), 1) for each in zip(*steps)]


class ListenAttendSpell(nn.Module):
    """A recogniser of characters, with an emotion from its encoder and another from the states of its decoder."""

    def __init__(self, c: dict):
        super().__init__()
        self.mel, self.encoder, self.decoder = c["mel"], Listener(c), Speller(c)
        M, H = 2 * c["hidden_size"], c["hidden_size"]
        self.pooling, self.classifier = Pooling(M, "additive"), nn.Linear(M, 4)
        self.lstm = nn.LSTM(c["decoder_hidden_size"], H, batch_first=True, bidirectional=True)
        self.pooling_hidden, self.classifier_hidden = Pooling(M, "dot"), nn.Linear(M, 4)

    def run(self, x: dict) -> tuple[dict, torch.Tensor]:
        features = log_mel(x["audio"], self.mel)
        frames = (x["lengths"] - self.mel["n_fft"]) // self.mel["hop_length"] + 1
        memory, lengths = self.encoder(features, frames)
        mask = torch.arange(memory.shape[1]) < lengths[:, None]
        targets = x["targets"]
        inputs = torch.cat([torch.full((len(targets), 1), self.decoder.start), targets[:, :-1].clamp(min=0)], 1)
        states, p, logits = self.decoder(memory, mask, inputs)
        pool_p, pooled = self.pooling(memory, mask)
        spelled = targets >= 0
        hidden_p, pooled_hidden = self.pooling_hidden(packed_lstm(self.lstm, states, spelled.sum(1)), spelled)
        found = {"log_mel": features, "mel.slaney": log_mel(x["audio"], SLANEY), "encoder": memory, "logits": logits,
                 "states": states, "attention": p, "pooling": pool_p, "pooled": pooled, "pooling_hidden": hidden_p,
                 "pooled_hidden": pooled_hidden, "emotion": self.classifier(pooled),
                 "emotion_hidden": self.classifier_hidden(pooled_hidden)}
        found["characters_loss"] = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1)
        found["emotion_loss"] = F.cross_entropy(found["emotion"], x["labels"])
        found["hidden_loss"] = F.cross_entropy(found["emotion_hidden"], x["labels"])
        found["loss"] = found["characters_loss"] + found["emotion_loss"] + found["hidden_loss"]
        return found, found["loss"]


def las_case(case: Case, options):
    rng = np.random.default_rng(options.seed)
    config = {**TINY_LAS, "mel": MEL}
    model = randomize(ListenAttendSpell(config), options.seed)
    samples = lengths_for(rng, round(options.seconds * RATE), options.batch, options.exact)
    raw = [synthetic_audio(rng, n) for n in samples]
    end, rows = model.decoder.end, [[*rng.integers(0, config["vocab_size"], 5 - 2 * (b % 2))] for b in range(options.batch)]
    targets = torch.full((options.batch, max(map(len, rows)) + 1), -100)
    for i, row in enumerate(rows):
        targets[i, :len(row) + 1] = torch.tensor([*row, end])
    inputs = {"audio": acoustic_inputs(raw, True)["input_values"], "lengths": torch.tensor(samples), "targets": targets,
              "labels": torch.from_numpy(rng.integers(0, 4, options.batch))}
    case.info["slaney"] = SLANEY
    case.json("config.json", {**TINY_LAS, **MEL})
    case.tensors("inputs", inputs)
    case.tensors("model", state_of(model))
    write_outputs(case, model, inputs, {"outputs": (model.run, ("audio",), True)}, options)


# ------------------------------------------------------------------------------------------- HuBERT's pretraining


def cosine_logits(x, embeddings, temperature):
    """fairseq's HubertModel.compute_pred, without leaving out equal candidates: K-way, not contrastive."""
    return F.cosine_similarity(x[:, None], embeddings[None], dim=-1) / temperature


def masked_prediction(x, embeddings, clusters, masked, temperature=0.1, weight=0.0):
    """Cross-entropy of masked frames (Hsu et al. 2021, equation 3), plus weight times that of the others; clusters < 0: padding."""
    logits = cosine_logits(x, embeddings, temperature)
    loss = sum(w * F.cross_entropy(logits[keep], clusters[keep])
               for w, keep in ((1, masked & (clusters >= 0)), (weight, ~masked & (clusters >= 0))) if w)
    return logits, loss


def kaldi_mfcc(samples: np.ndarray) -> np.ndarray:
    """torchaudio.compliance.kaldi.mfcc(use_energy=False), and torchaudio.functional.compute_deltas twice: (frames, 39)."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function
    mels, kept = 23, 13
    bank = mel_filter_bank(257, mels, 20, 8000, RATE, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    energies = spectrogram(samples.astype(np.float64), window_function(400, "povey", periodic=False), 400, 160,
                           fft_length=512, power=2.0, center=False, preemphasis=0.97, mel_filters=bank, log_mel="log",
                           mel_floor=2.0**-23, remove_dc_offset=True, dtype=np.float64).T
    c = np.arange(kept)[:, None]
    dct = np.cos(np.pi / mels * (np.arange(mels) + 0.5) * c) * np.where(c == 0, 1, math.sqrt(2)) / math.sqrt(mels)
    base = energies @ (dct * (1 + 11 * np.sin(np.pi * c / 22))).T

    def deltas(x):
        p = np.pad(x, ((2, 2), (0, 0)), mode="edge")
        return (p[3:-1] - p[1:-3] + 2 * (p[4:] - p[:-4])) / 10

    return np.concatenate([base, deltas(base), deltas(deltas(base))], 1)


def pretraining_case(case: Case, options):
    g, rng = torch.Generator().manual_seed(options.seed), np.random.default_rng(options.seed)
    N, P, K = 23, 9, 7
    clusters = torch.randint(K, (N,), generator=g)
    clusters[-3:] = -100
    inputs = {"x": torch.randn(N, P, generator=g), "embeddings": torch.rand(K, P, generator=g) * 2 - 1,
              "clusters": clusters, "masked": torch.rand(N, generator=g) < 0.6}
    found = {}
    for name, weight in (("", 0.0), ("weighted_", 0.3)):
        x, e = (inputs[k].double().requires_grad_() for k in ("x", "embeddings"))
        logits, loss = masked_prediction(x, e, clusters, inputs["masked"], weight=weight)
        grads = torch.autograd.grad(loss, [x, e])
        found |= {f"{name}logits": logits.detach(), f"{name}loss": loss.detach(),
                  **{f"{name}grad.{k}": v for k, v in zip(("x", "embeddings"), grads)}}
    audio = synthetic_audio(rng, 4000)
    found["mfcc"] = torch.from_numpy(kaldi_mfcc(audio))
    case.tensors("inputs", {**inputs, "masked": inputs["masked"].long(), "audio": torch.from_numpy(audio)})
    case.tensors("outputs_f64", {k: v.float() for k, v in found.items()})


# ------------------------------------------------------------------------------------------- single operations


class Ops:
    """Collects cases of single operations: tensors <case>/<name>, <case>/<name>64, and the lines of index.json."""

    def __init__(self, seed: int):
        self.g, self.files, self.index = torch.Generator().manual_seed(seed), {}, []
        self.rng = np.random.default_rng(seed)

    def randn(self, *shape, scale=1.0, shift=0.0):
        return torch.randn(shape, generator=self.g) * scale + shift

    def odd(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high)) | 1

    def add(self, file: str, name: str, op: str, inputs: dict, run, outputs=("out",), nograd=(), also=(), **attrs):
        """Runs it in both precisions; L = sum(out * cot.out), or L = out where that is a scalar. The outputs `also` join in."""
        kept = {f"{name}/{k}": v for k, v in inputs.items()}
        leaves = [k for k, v in inputs.items() if v.is_floating_point() and k not in nograd]
        wild, cotangents = [], {}
        for dtype, tag in ((torch.float32, ""), (torch.float64, "64")):
            x = cast(inputs, dtype)
            for k in leaves:
                x[k].requires_grad_()
            found = run(x)
            found = found if isinstance(found, dict) else {"out": found}
            for k in ("out", *also):
                if found[k].dim() and k not in cotangents:
                    cotangents[k] = kept[f"{name}/cot.{k}"] = self.randn(*found[k].shape)
            loss = sum((found[k] * c.to(dtype)).sum() for k, c in cotangents.items()) if cotangents else found["out"]
            grads = torch.autograd.grad(loss, [x[k] for k in leaves])
            for k, v in [*found.items(), *((f"grad.{k}", g) for k, g in zip(leaves, grads))]:
                kept[f"{name}/{k}{tag}"] = v.detach()
                wild += [] if v.isfinite().all() else [k + tag]
        self.put(file, name, kept, list(inputs), list(outputs), {"op": op, **attrs}, grads=leaves,
                 **({"nonfinite": wild} if wild else {}))

    def put(self, file, name, tensors, inputs, outputs, attrs, **more):
        self.files.setdefault(file, {}).update(tensors)
        self.index.append({"case": name, "file": f"{file}.safetensors", "inputs": inputs, "outputs": outputs,
                           "attrs": attrs, **more})


def ops_case(case: Case, options):
    o = Ops(options.seed)
    for family in (norm_ops, softmax_ops, attention_ops, conv_ops, lookup_ops, ctc_ops, other_ops, optim_ops,
                   lstm_ops):
        family(o)
    for file, tensors in o.files.items():
        case.tensors(file, tensors)
    case.json("index.json", {**case.info, "cases": o.index, "convention":
              "tensors are named <case>/<name>; <name>64 is the same computed in float64; L = sum over outputs of "
              "sum(out*cot.out) (scalar outputs: cotangent 1); grad.<input> = dL/dinput"})


def norm_ops(o: Ops):
    edges = torch.tensor([-200.0, -50, -13, -6, -1e-4, -0.0, 0, 1e-4, 6, 13, 50, 200])
    x = torch.cat([torch.linspace(-9.5, 9.5, 900 + o.odd(0, 99)), edges])
    for name, approximate in (("gelu_erf", "none"), ("gelu_tanh", "tanh")):
        o.add("gelu", name, "gelu", {"x": x}, lambda v, a=approximate: F.gelu(v["x"], approximate=a), approximate=approximate)

    def layer_norm(name, x, eps, **attrs):
        C = x.shape[-1]
        o.add("layer_norm", name, "layer_norm", {"x": x, "w": o.randn(C, scale=0.2, shift=1), "b": o.randn(C, scale=0.1)},
              lambda v: F.layer_norm(v["x"], (C,), v["w"], v["b"], eps), eps=eps, **attrs)

    small, large = o.odd(3, 12), o.odd(900, 1500)
    for C, eps in ((1, 1e-5), (small, 1e-5), (small, 1e-12), (large, 1e-5), (large + 1, 1e-5)):
        layer_norm(f"ln_{C}_eps{eps}", o.randn(o.odd(2, 7), C, scale=2, shift=0.5), eps)
    layer_norm("ln_offset_1e3", o.randn(3, large, shift=1e3), 1e-5,
               note="large mean: two-pass or Welford variance needed; compare with *64")
    layer_norm("ln_constant_row", torch.stack([torch.full((16,), 3.25), o.randn(16, scale=1e-4)]), 1e-5)
    for B, C, T, G in ((2, 32, o.odd(40, 70), 32), (1, 8, 1000 + o.odd(0, 50), 8), (2, 12, o.odd(20, 50), 4), (1, 6, 5, 1)):
        o.add("group_norm", f"gn_B{B}_C{C}_T{T}_G{G}", "group_norm",
              {"x": o.randn(B, C, T, scale=2, shift=0.5), "w": o.randn(C, scale=0.2, shift=1), "b": o.randn(C, scale=0.1)},
              lambda v, G=G: F.group_norm(v["x"], G, v["w"], v["b"], 1e-5), eps=1e-5, groups=G)


def softmax_ops(o: Ops):
    both = (("softmax", torch.softmax), ("log_softmax", torch.log_softmax))
    for C in (1, 5, o.odd(100, 300), 1000 + o.odd(0, 60)):
        x = o.randn(4, C, scale=2)
        for op, f in both:
            o.add("softmax", f"{op}_{C}", op, {"x": x}, lambda v, f=f: f(v["x"], -1), dim=-1)
    x = o.randn(4, o.odd(20, 60), scale=1e4)
    for op, f in both:
        o.add("softmax", f"{op}_large_1e4", op, {"x": x}, lambda v, f=f: f(v["x"], -1))
    C = o.odd(15, 40)
    mask = (torch.rand(6, C, generator=o.g) < 0.3).long()
    mask[:, 0] = 0

    def infinite(v):
        return v["x"].masked_fill(v["mask"] == 1, -math.inf).softmax(-1)

    o.add("softmax", "softmax_neg_inf_mask", "softmax of x with mask==1 set to -inf",
          {"x": o.randn(6, C, scale=2), "mask": mask}, infinite)
    o.add("softmax", "softmax_finfo_min_mask", "softmax(x + mask*finfo.min)", {"x": o.randn(6, C, scale=2), "mask": mask},
          lambda v: (v["x"] + v["mask"].to(v["x"].dtype) * torch.finfo(v["x"].dtype).min).softmax(-1))
    row = torch.zeros(2, 9, dtype=torch.long)
    row[0] = 1
    o.add("softmax", "softmax_row_all_neg_inf", "softmax; first row fully -inf: torch gives NaN (a row fully masked with "
          "finfo.min gives the uniform distribution instead)", {"x": o.randn(2, 9), "mask": row}, infinite)


def attention_ops(o: Ops):
    q, k = o.odd(11, 30), o.odd(31, 60)
    for B, H, Q, K, D in ((2, 2, q, q, 64), (1, 1, k, k, 80), (2, 1, q, k, 64), (1, 2, 1, 7, 80), (2, 1, 5, 5, 1),
                          (2, 1, o.odd(7, 15), o.odd(17, 33), o.odd(90, 128))):
        mask = torch.ones(B, K, dtype=torch.long)
        mask[B - 1, K - int(o.rng.integers(0, K // 2)):] = 0

        def attend(v, D=D):
            score = v["q"] @ v["k"].transpose(-1, -2) / math.sqrt(D)
            probs = score.masked_fill(v["key_mask"][:, None, None] == 0, -math.inf).softmax(-1)
            return {"probs": probs, "out": probs @ v["v"]}

        o.add("attention", f"sdpa_B{B}_H{H}_Q{Q}_K{K}_D{D}", "softmax(q k^T/sqrt(D), keys with key_mask==0 -> -inf) v",
              {"q": o.randn(B, H, Q, D), "k": o.randn(B, H, K, D), "v": o.randn(B, H, K, D), "key_mask": mask}, attend,
              outputs=("probs", "out"), scale=1 / math.sqrt(D))


def conv_ops(o: Ops):
    note = "for even k with padding k/2 HuBERT then drops the last output frame"
    for name, B, C, T, O, k, stride, padding, groups, dilation, bias in (
            ("first_k10s5", 2, 1, o.odd(150, 300), 8, 10, 5, 0, 1, 1, True),
            ("k3s2", 2, 8, 40 + o.odd(0, 9), 12, 3, 2, 0, 1, 1, True),
            ("k2s2_nobias_oddlen", 1, 8, o.odd(20, 50), 8, 2, 2, 0, 1, 1, False),
            ("grouped_pos_k16_g4_samepad", 2, 32, o.odd(10, 40), 32, 16, 1, 8, 4, 1, True),
            ("grouped_pos_k128_g16_samepad", 1, 64, o.odd(20, 50) + 1, 64, 128, 1, 64, 16, 1, True),
            ("odd_k19_g5", 1, 20, o.odd(20, 40), 20, 19, 1, 9, 5, 1, True),
            ("depthwise_k5", 1, 6, o.odd(10, 30), 6, 5, 1, 2, 6, 1, False),
            ("k1", 1, 5, o.odd(5, 20), 7, 1, 1, 0, 1, 1, True),
            ("input_eq_kernel", 1, 3, 10, 4, 10, 5, 0, 1, 1, True),
            ("stride_gt_kernel", 1, 3, 20 + o.odd(0, 9), 4, 2, 5, 1, 1, 1, True),
            ("dilation2", 1, 4, o.odd(15, 30), 4, 3, 1, 2, 1, 2, True)):
        inputs = {"x": o.randn(B, C, T), "w": o.randn(O, C // groups, k, scale=(C // groups * k) ** -0.5)}
        if bias:
            inputs["b"] = o.randn(O, scale=0.1)
        attrs = {"stride": stride, "padding": padding, "groups": groups, "dilation": dilation}
        o.add("conv1d", name, "conv1d", inputs, lambda v, a=attrs: F.conv1d(v["x"], v["w"], v.get("b"), **a), note=note, **attrs)

    def normalized(v):
        w = v["g"] * v["v"] / v["v"].norm(dim=(0, 1), keepdim=True)
        return F.gelu(F.conv1d(v["x"], w, v["b"], padding=8, groups=4)[..., :v["x"].shape[-1]])

    o.add("conv1d", "weight_norm_dim2_samepad_gelu_even",
          "gelu(conv1d(x, w=g*v/||v||_{dims 0,1}, b, padding=k//2, groups)[..., :T])",
          {"x": o.randn(2, 16, o.odd(15, 30)), "g": o.randn(1, 1, 16, scale=0.2, shift=2), "v": o.randn(16, 4, 16, scale=0.3),
           "b": o.randn(16, scale=0.1)}, normalized, padding=8, groups=4)


def lookup_ops(o: Ops):
    V, C = o.odd(9, 30), o.odd(9, 40)
    ids = torch.from_numpy(o.rng.integers(0, V, (3, 9)))
    ids[0, :4], ids[1, 1] = V // 2, 0
    o.add("embedding", "plain", "embedding", {"w": o.randn(V, C), "ids": ids}, lambda v: F.embedding(v["ids"], v["w"]))
    o.add("embedding", "padding_idx0", "embedding", {"w": o.randn(V, C), "ids": ids},
          lambda v: F.embedding(v["ids"], v["w"], padding_idx=0), padding_idx=0,
          note="forward uses row 0 as is; gradient row 0 is always zero (this is how BertEmbeddings.word_embeddings behaves)")

    N, C = o.odd(7, 40), o.odd(4, 12)
    t = torch.from_numpy(o.rng.integers(0, C, N))
    ignored = t.clone()
    ignored[1::3] = -100
    for reduction in ("mean", "sum", "none"):
        for name, target, attrs in (("ce", t, {}), ("ce_ignore", ignored, {"ignore_index": -100})):
            o.add("cross_entropy", f"{name}_{reduction}", "cross_entropy", {"x": o.randn(N, C, scale=3), "t": target},
                  lambda v, r=reduction: F.cross_entropy(v["x"], v["t"], reduction=r), reduction=reduction, **attrs)
    o.add("cross_entropy", "ce_smoothing_weight", "cross_entropy",
          {"x": o.randn(N, C, scale=3), "w": torch.rand(C, generator=o.g) * 1.5 + 0.5, "t": t},
          lambda v: F.cross_entropy(v["x"], v["t"], v["w"], label_smoothing=0.1), nograd=("w",),
          reduction="mean", class_weight="w", label_smoothing=0.1)
    o.add("cross_entropy", "ce_all_ignored", "cross_entropy", {"x": o.randn(3, C), "t": torch.full((3,), -100)},
          lambda v: F.cross_entropy(v["x"], v["t"]), note="0/0 -> NaN")
    o.add("cross_entropy", "ce_large_logits", "cross_entropy", {"x": o.randn(N, C, scale=1e4), "t": t},
          lambda v: F.cross_entropy(v["x"], v["t"]))


def ctc_ops(o: Ops):
    def labels(n, V, blank=0):
        return [int(v) for v in o.rng.choice([v for v in range(V) if v != blank], n)]

    def add(name, T, V, rows, frames, reductions, note="", blank=0, scale=2.0, zero=(False,)):
        targets = torch.full((len(rows), max(map(len, rows))), -100)
        for i, row in enumerate(rows):
            targets[i, :len(row)] = torch.tensor(row, dtype=torch.long)
        inputs = {"logits": o.randn(len(rows), T, V, scale=scale), "targets": targets,
                  "input_lengths": torch.tensor(frames), "target_lengths": torch.tensor([len(row) for row in rows])}
        for zero_infinity in zero:
            for reduction in reductions:
                o.add("ctc", f"{name}_{reduction}" + ("_zinf" if zero_infinity else ""), "ctc_loss(log_softmax(logits))", inputs,
                      lambda v: F.ctc_loss(v["logits"].log_softmax(-1).transpose(0, 1), v["targets"].clamp(min=0),
                                           v["input_lengths"], v["target_lengths"], blank, reduction, zero_infinity),
                      blank=blank, layout="logits are (B,T,V)", reduction=reduction, zero_infinity=zero_infinity,
                      note=note + " | mean = each sample's loss / max(target_len,1), then batch mean")

    every, total = ("mean", "sum", "none"), ("sum",)
    T = o.odd(11, 19)
    add("simple", T, 6, [labels(4, 6)], [T], every)
    add("repeated", 15, 5, [[2, 2, 2, 2, 4, 4], [3, 3, 2, 2, 1]], [15, 14], every, "repeated labels need a blank between")
    add("tight_repeat", 5, 4, [[1, 1, 2]], [5], every, "exactly T = L + repeats + 1")
    add("exact_fit", 4, 5, [[1, 2, 3, 4]], [4], total, "T == L, one path")
    add("single_frame", 1, 4, [[3]], [1], total)
    add("empty_target", 7, 5, [[], labels(3, 5)], [7, 6], every, "sample 0 has no labels: only blanks")
    add("impossible", 5, 6, [labels(7, 6), labels(2, 6)], [5, 5], every, "sample 0 target longer than input: loss inf "
        "(zero_infinity False) or 0 with zero gradient (True)", zero=(False, True))
    add("impossible_repeat", 3, 4, [[2, 2, 2]], [3], total, "T=3 but 3 repeats need 5 frames", zero=(False, True))
    T = o.odd(35, 60)
    add("varlen", T, 32, [labels(10, 32), labels(6, 32), labels(1, 32), []], [T, T - 9, 9, 3], every, "padded batch")
    add("blank_last", 20, 8, [labels(5, 8, 7), labels(7, 8, 7)], [20, 18], every, blank=7)
    add("blank_mid", 20, 8, [[2, 2, 7, 7, 7], labels(7, 8, 3)], [20, 18], every, blank=3)
    T = 700 + o.odd(0, 200)
    add("long", T, 32, [labels(120, 32), labels(75, 32)], [T, T - 189], total, "long T: forward/backward must be in log space",
        scale=3.0)
    add("peaky", 50, 10, [labels(9, 10)], [50], total, "very peaky logits", scale=30.0)


def other_ops(o: Ops):
    C, T = o.odd(9, 30), o.odd(9, 30)
    mask = (torch.rand(3, T, generator=o.g) < 0.7).long()
    mask[:, 0] = 1

    def mean(v):
        real = v["mask"][..., None].to(v["x"].dtype)
        return (v["x"] * real).sum(1) / real.sum(1)

    def gate(v):
        g = F.linear(torch.cat([v["s"], v["c"]], -1).sigmoid(), v["w"], v["b"])
        return torch.cat([v["s"] * g, v["c"] * (1 - g)], -1)

    o.add("misc", "masked_mean_time", "mean over time of frames with mask==1", {"x": o.randn(3, T, C), "mask": mask}, mean)
    o.add("misc", "gate", "g=linear(sigmoid(cat[s,c])); cat[s*g, c*(1-g)]",
          {"s": o.randn(2, 9, C), "c": o.randn(2, 9, C), "w": o.randn(C, 2 * C, scale=(2 * C) ** -0.5),
           "b": o.randn(C, scale=0.1)}, gate)
    o.add("misc", "sigmoid_extreme", "sigmoid", {"x": torch.tensor([-200.0, -88, -30, -1, -0.0, 0, 1, 30, 88, 200])},
          lambda v: v["x"].sigmoid())
    o.add("misc", "tanh_extreme", "tanh", {"x": torch.tensor([-200, -44, -9, -1, -1e-4, 0, 1e-4, 1, 9, 44, 200])},
          lambda v: v["x"].tanh(), note="many GPU tanh implementations give NaN for |x|>44")
    K, N = o.odd(40, 90), o.odd(20, 50)
    o.add("misc", "linear_odd", "x w^T + b", {"x": o.randn(3, 5, K), "w": o.randn(N, K, scale=1.25 * K**-0.5),
                                             "b": o.randn(N, scale=0.1)}, lambda v: F.linear(v["x"], v["w"], v["b"]))
    o.add("misc", "matmul_big_k", "a b", {"a": o.randn(3, 4096), "b": o.randn(4096, 5)}, lambda v: v["a"] @ v["b"])
    o.add("misc", "zero_mean_unit_var", "(x-mean)/sqrt(population var + 1e-7), the HF feature extractor formula",
          {"x": o.randn(1000 + o.odd(0, 99), scale=0.05, shift=0.3)},
          lambda v: (v["x"] - v["x"].mean()) / (v["x"].var(unbiased=False) + 1e-7).sqrt())


def optim_ops(o: Ops):
    shapes = {"w": (o.odd(5, 12), o.odd(3, 9)), "b": (5,)}
    grads = [{k: o.randn(*s, scale=scale) for k, s in shapes.items()} for scale in (0.1, 1.0, 10.0)]
    start = {"w": o.randn(*shapes["w"]), "b": o.randn(*shapes["b"], scale=0.1)}
    adam = {"betas": [0.9, 0.999], "eps": 1e-8, "lr": 0.01, "weight_decay": 0.01}
    for name, cls, attrs in (("adamw_wd0.01", torch.optim.AdamW, adam),
                             ("adamw_wd0.1_b95", torch.optim.AdamW, {"betas": [0.9, 0.95], "eps": 1e-6, "lr": 0.003,
                                                                     "weight_decay": 0.1}),
                             ("adam_l2", torch.optim.Adam, adam),
                             ("sgd_momentum", torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.01})):
        kept = {f"{name}/{k}": v for k, v in start.items()}
        kept.update({f"{name}/grad{i + 1}.{k}": v for i, g in enumerate(grads) for k, v in g.items()})
        for dtype, tag in ((torch.float32, ""), (torch.float64, "64")):
            p = {k: nn.Parameter(v.to(dtype, copy=True)) for k, v in start.items()}
            optimizer = cls(p.values(), **attrs)
            for i, g in enumerate(grads):
                for k in p:
                    p[k].grad = g[k].to(dtype)
                optimizer.step()
                kept.update({f"{name}/{k}.after{i + 1}{tag}": v.detach().clone() for k, v in p.items()})
            kept.update({f"{name}/{k}.{slot}{tag}": v for k in p for slot, v in optimizer.state[p[k]].items()
                         if slot in ("exp_avg", "exp_avg_sq", "momentum_buffer")})
        o.put("optim", name, kept, ["w", "b", "grad1.*", "grad2.*", "grad3.*"],
              ["*.after1", "*.after2", "*.after3", "*.exp_avg", "*.exp_avg_sq"], attrs)
    p = {k: nn.Parameter(v) for k, v in start.items()}
    for k in p:
        p[k].grad = grads[1][k].clone()
    norm = nn.utils.clip_grad_norm_(p.values(), 1.0)
    kept = {"norm": norm, **{f"grad.{k}": v for k, v in grads[1].items()}, **{f"clipped.{k}": p[k].grad for k in p}}
    o.put("optim", "clip_grad_norm", {f"clip_grad_norm/{k}": v for k, v in kept.items()}, ["grad.*"], ["norm", "clipped.*"],
          {"max_norm": 1.0, "note": "scale = max_norm/(norm+1e-6), clamped to 1"})


def lstm_ops(o: Ops):
    """torch.nn.LSTM on packed sequences; h_0 and c_0 are (layers * directions, B, H), as h_n and c_n."""
    for name, K, H, layers, both, lengths in (("lstm_packed", 3, 5, 1, False, [6, 2, 4]),
                                              ("lstm_two_layers_both_ways", 3, 4, 2, True, [3, 5])):
        model = nn.LSTM(K, H, layers, batch_first=True, bidirectional=both)
        B, T, states = len(lengths), max(lengths), layers * (2 if both else 1)
        inputs = {"x": o.randn(B, T, K), "lengths": torch.tensor(lengths), "h_0": o.randn(states, B, H),
                  "c_0": o.randn(states, B, H),
                  **{k: o.randn(*w.shape, scale=1.5 * w.shape[-1]**-0.5) for k, w in model.named_parameters()}}

        def run(v, model=model, T=T):
            model.to(v["x"].dtype)._flat_weights = [v[k] for k in model._flat_weights_names]
            packed = nn.utils.rnn.pack_padded_sequence(v["x"], v["lengths"], batch_first=True, enforce_sorted=False)
            out, (h, c) = model(packed, (v["h_0"], v["c_0"]))
            return {"out": nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=T)[0], "h_n": h, "c_n": c}

        o.add("lstm", name, "lstm", inputs, run, ("out", "h_n", "c_n"), also=("h_n", "c_n"), layers=layers,
              bidirectional=both)


# ------------------------------------------------------------------------------------------------ command line


def arguments(argv):
    p = argparse.ArgumentParser(prog="reference.py", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    source = p.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="PATH_OR_ID", help="a HuBERT, wav2vec2 or BERT checkpoint: folder or hub name")
    source.add_argument("--random", metavar="NAME", choices=[*MODELS, *FUSION, "ops"],
                        help="seeded random weights: " + ", ".join([*MODELS, *FUSION, "ops"]))
    p.add_argument("--out", metavar="CASE", type=Path, required=True, help="the folder to write; must not exist yet")
    p.add_argument("--audio", metavar="WAV", nargs="+", help="16 kHz recordings, one a sample of the batch")
    p.add_argument("--seconds", type=float, help="length of the longest synthetic recording")
    p.add_argument("--text", nargs="+", help="texts for BERT, through the checkpoint's own tokenizer")
    p.add_argument("--tokens", type=int, help="length of the longest random text")
    p.add_argument("--batch", type=int, help="number of recordings or texts")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--hidden", choices=("all", "last"), default="all", help="which hidden states to keep")
    p.add_argument("--outputs", default="all", metavar="GROUPS",
                   help="comma-separated: conv, attentions, stages, hidden; the last hidden state, logits and loss are always kept")
    p.add_argument("--no-grad", action="store_true", help="forward only")
    p.add_argument("--no-f64", action="store_true", help="no float64 truth (half the time, a third of the memory)")
    p.add_argument("--grad-norm-only", action="store_true", help="e2e: loss and total gradient norm, no tensors but the results")
    p.add_argument("--no-model", action="store_true",
                   help="e2e: write inputs and outputs alone, for a case that lies in its model's own folder")
    p.add_argument("--adamw-steps", type=int, metavar="N", help="also the losses of N AdamW steps on the same batch")
    p.add_argument("--interaction", choices=("self", "cross", "cmgi"), help="cmgi: what is between the modalities")
    p.add_argument("--gate", choices=("temporal", "pooled", "modal"), help="cmgi: what weighs them")
    p.add_argument("--bounded", action="store_true", help="cmgi: G = sigmoid(f(concat)) in place of f(sigmoid(concat))")
    p.add_argument("--widths", type=int, nargs=3, metavar=("D", "D_S", "D_T"), help="cmgi: common, acoustic and text width")
    p.add_argument("--keys", "--legacy-keys", dest="keys", nargs="?", const="weight_norm", default="weight_norm",
                   choices=("weight_norm", "parametrized"),
                   help="spelling of the weight-normalised convolution: weight_g/weight_v (default) or parametrizations")
    p.add_argument("--variants", nargs="*", choices=("parametrized", "legacy", "masked", "spec"),
                   help="further files: other key spellings, the attention mask passed, SpecAugment frames")
    p.add_argument("--autocast", choices=("float16", "bfloat16"),
                   help="outputs.safetensors by torch.autocast on the CPU in place of float32")
    p.add_argument("--layers", type=int, metavar="N", help="--random: so many transformer layers instead")
    p.add_argument("--threads", type=int, help="CPU threads for torch")
    options = p.parse_args(argv)
    if options.text and not options.model:
        p.error("--text needs --model, whose tokenizer it uses")
    options.system = (options.random or "").startswith("e2e") or bool(options.model and is_system(options.model))
    if options.grad_norm_only and not options.system:
        p.error("--grad-norm-only is for --random e2e-tiny and e2e-full")
    if options.layers and options.random not in MODELS:
        p.error("--layers is for --random with one of the encoders")
    if options.no_model and not options.system:
        p.error("--no-model is for whole systems")
    for name in ("batch", "seconds", "tokens", "threads", "layers"):
        if (getattr(options, name) or 1) <= 0:
            p.error(f"--{name} should be above 0")
    return options


def fill(options):
    """What the user left open comes from the table of models; sizes asked for are kept exactly."""
    open_ended = ("", {}, 0.6, 2, 8 if options.random == "e2e-tiny" else 0, ())
    _, _, size, batch, steps, variants = MODELS.get(options.random, open_ended)
    options.exact = options.seconds is not None or options.tokens is not None or options.random in ("hubert-large", "bert-base")
    options.seconds = options.seconds or (size if size < 10 else 0.6)
    options.tokens = options.tokens or (size if size >= 10 else 24)
    options.batch = options.batch or batch
    options.adamw_steps = steps if options.adamw_steps is None else options.adamw_steps
    options.variants = variants if options.variants is None else options.variants


def main(argv=None) -> int:
    options = arguments(argv)
    fill(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    case = None
    try:
        case = Case(options.out, options.seed)
        if options.random == "ops":
            ops_case(case, options)
        elif options.system:
            e2e_case(case, options)
        elif options.random == "cmgi":
            cmgi_case(case, options)
        elif options.random == "pretraining":
            pretraining_case(case, options)
        elif options.random == "las":
            las_case(case, options)
        else:
            model = load_model(options.model) if options.model else random_model(options.random, options.seed, options.layers)
            (bert_case if model.config.model_type == "bert" else acoustic_case)(case, model, options, options.model)
        case.finish(options.random != "ops")
    except BaseException as error:
        if case:
            case.abandon()
        if isinstance(error, (Failure, OSError)):
            print(f"reference: {error}", file=sys.stderr)
            return 1
        raise
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
