#!/usr/bin/env python3
"""Makes small models of every family that `trefoil import` knows, as transformers itself writes them, with random weights.

    python3 -m pip install torch transformers safetensors
    python3 tests/golden/make_hf_models.py [FOLDER [NAME...]]      # tests/exchange/models: FOLDER/NAME for each

A folder holds config.json and model.safetensors, as save_pretrained writes them, and golden.safetensors:
    ids            i32 [B, T]        what a text model reads; of an encoder-decoder the encoder's
    decoder_ids    i32 [B, U]        what a decoder reads besides
    segments       i32 [B, T]        of an encoder
    pixels         f32 [B, 3, S, S]  what a model of images reads
    logits         f32 [B, ...]      what transformers' own network says, in float32, of every token or sample
    greedy         i32 [B, N]        of what writes text: the likeliest tokens behind ids, one after the other
Weights are drawn larger than these networks begin with, so that every part of them counts.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

VOCABULARY, LENGTH, GREEDY = 61, 24, 16
DECODER = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=40,
               vocab_size=VOCABULARY, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
ENCODER = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, vocab_size=VOCABULARY,
               max_position_embeddings=LENGTH)
VIT = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, image_size=8, patch_size=4)
T5 = dict(d_model=24, d_kv=8, d_ff=40, num_layers=2, num_decoder_layers=3, num_heads=4, vocab_size=131)

MODELS = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config",
             dict(n_embd=24, n_layer=2, n_head=4, n_positions=64, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2)),
    "gpt2_gelu": ("GPT2LMHeadModel", "GPT2Config",
                  dict(n_embd=24, n_layer=2, n_head=4, n_positions=64, vocab_size=VOCABULARY, n_inner=32,
                       activation_function="gelu", tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)),
    "llama2": ("LlamaForCausalLM", "LlamaConfig", dict(DECODER, rms_norm_eps=1e-5)),
    "llama3": ("LlamaForCausalLM", "LlamaConfig", dict(DECODER, rope_parameters=LLAMA3, tie_word_embeddings=True, head_dim=8)),
    "llama_bias": ("LlamaForCausalLM", "LlamaConfig", dict(DECODER, attention_bias=True, mlp_bias=True)),
    "mistral": ("MistralForCausalLM", "MistralConfig", dict(DECODER, sliding_window=7, head_dim=6)),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", dict(DECODER, tie_word_embeddings=True)),
    "qwen2_window": ("Qwen2ForCausalLM", "Qwen2Config",
                     dict(DECODER, use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", dict(DECODER, head_dim=10)),
    "smollm2": ("LlamaForCausalLM", "LlamaConfig",
                dict(DECODER, num_attention_heads=6, head_dim=4, tie_word_embeddings=True, rms_norm_eps=1e-5,
                     rope_parameters=dict(rope_type="default", rope_theta=100000.0))),
    "bert_masked": ("BertForMaskedLM", "BertConfig", ENCODER),
    "bert_classes": ("BertForSequenceClassification", "BertConfig",
                     dict(ENCODER, id2label={0: "bad", 1: "fair", 2: "good"}, label2id=dict(bad=0, fair=1, good=2))),
    "bert_tokens": ("BertForTokenClassification", "BertConfig", dict(ENCODER, num_labels=5)),
    "t5": ("T5ForConditionalGeneration", "T5Config",
           dict(T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False, scale_decoder_outputs=False)),
    "t5_tied": ("T5ForConditionalGeneration", "T5Config", dict(T5, feed_forward_proj="relu")),
    "vit": ("ViTForImageClassification", "ViTConfig", dict(VIT, num_labels=7)),
}


def randomize(model, generator):
    """Larger than at first; norms near one; a tied tensor once."""
    for name, weight in model.named_parameters():
        values = torch.randn(weight.shape, generator=generator)
        norm = weight.dim() == 1 and name.endswith("weight")
        weight.data = 1 + 0.2 * values if norm else 0.3 * values


def batch_of(name, model, generator):
    ids = torch.randint(3, VOCABULARY, (2, LENGTH), generator=generator)
    if name == "vit":
        return dict(pixels=torch.randn((2, 3, 8, 8), generator=generator))
    if name.startswith("bert"):
        return dict(ids=ids, segments=(torch.arange(LENGTH) >= 9).long().expand(2, LENGTH).contiguous())
    if name.startswith("t5"):
        return dict(ids=ids, decoder_ids=torch.randint(3, VOCABULARY, (2, 11), generator=generator))
    return dict(ids=ids)


@torch.no_grad()
def logits_of(model, batch):
    names = dict(ids="input_ids", decoder_ids="decoder_input_ids", segments="token_type_ids", pixels="pixel_values")
    return model(**{names[n]: x for n, x in batch.items()}).logits


@torch.no_grad()
def greedy(model, ids):
    for _ in range(GREEDY):
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids[:, -GREEDY:]


def make(folder, name):
    architecture, config, fields = MODELS[name]
    generator = torch.Generator().manual_seed(len(name) * 1000 + sum(map(ord, name)))
    config = getattr(transformers, config)(**fields)
    config._attn_implementation = "eager"
    model = getattr(transformers, architecture)(config).float().eval()
    if name == "t5":  # transformers 5 ties the head of every T5 but where a file has another
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    randomize(model, generator)
    shutil.rmtree(folder / name, ignore_errors=True)
    model.save_pretrained(folder / name)
    model = getattr(transformers, architecture).from_pretrained(folder / name, attn_implementation="eager").eval()
    batch = batch_of(name, model, generator)
    golden = {n: x.numpy().astype(np.float32 if n == "pixels" else np.int32) for n, x in batch.items()}
    golden["logits"] = logits_of(model, batch).numpy()
    if architecture.endswith("CausalLM") or architecture.startswith("GPT2"):
        golden["greedy"] = greedy(model, batch["ids"]).numpy().astype(np.int32)
    save_file(golden, folder / name / "golden.safetensors", metadata=dict(transformers=transformers.__version__))
    (folder / name / "generation_config.json").unlink(missing_ok=True)
    print(f"{name:14} {sum(p.numel() for p in model.parameters()):6} parameters, logits", *golden["logits"].shape,
          f"within {np.abs(golden['logits']).max():.2f}")


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "exchange/models")
    transformers.logging.set_verbosity_error()
    for name in sys.argv[2:] or MODELS:
        make(folder, name)


if __name__ == "__main__":
    main()
