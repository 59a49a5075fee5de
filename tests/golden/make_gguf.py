#!/usr/bin/env python3
"""Makes what tests/exchange/gguf_test.cc reads, with ggml's own Python package and transformers.

    python3 -m pip install gguf torch transformers safetensors
    python3 tests/golden/make_gguf.py            # writes tests/exchange/gguf/

    blocks.safetensors    bytes/FORMAT u8 [n]: random blocks of a format; values/FORMAT f32: what ggml says they are
    llama.gguf            tests/exchange/models/smollm2 as llama.cpp has it: queries and keys with the pairs of rotary
                          positions side by side, matrices of F16 and BF16, a byte-level tokenizer
    golden.safetensors    as make_hf_models.py's, of the weights as they are rounded there
"""

import pathlib

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

ROOT = pathlib.Path(__file__).parent.parent / "exchange"
FORMATS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"]


def make_blocks():
    random = np.random.default_rng(5)
    arrays = {}
    for name in FORMATS:
        kind = getattr(gguf.GGMLQuantizationType, name)
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        data = random.integers(0, 256, size=(6 * size if elements > 1 else 40 * size), dtype=np.uint8)
        if elements == 1:  # plain numbers that are finite
            data = gguf.quants.quantize(random.standard_normal(40).astype(np.float32), kind).view(np.uint8).reshape(-1)
        else:
            scales = random.standard_normal(6 * 2).astype(np.float16)
            blocks = data.reshape(6, size)
            at = {"Q4_1": (0, 2), "Q4_K": (0, 2), "Q6_K": (208,)}.get(name, (0,))
            for i, offset in enumerate(at):
                blocks[:, offset:offset + 2] = scales[i * 6:(i + 1) * 6].reshape(6, 1).view(np.uint8)
        arrays["bytes/" + name] = data
        arrays["values/" + name] = gguf.quants.dequantize(data, kind).astype(np.float32).reshape(-1)
    save_file(arrays, ROOT / "gguf/blocks.safetensors")


def with_pairs_together(matrix, heads):
    return matrix.reshape(heads, 2, -1, matrix.shape[-1]).swapaxes(1, 2).reshape(matrix.shape)


def rounded(x, dtype):
    return x.to(dtype).float()


def make_model():
    source = ROOT / "models/smollm2"
    model = transformers.AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager").float().eval()
    config = model.config
    writer = gguf.GGUFWriter(ROOT / "gguf/llama.gguf", "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    for i in range(config.num_hidden_layers):
        theirs = f"model.layers.{i}."
        for a, b in [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
                     ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"),
                     ("self_attn.o_proj", "attn_output"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
                     ("mlp.down_proj", "ffn_down")]:
            names[theirs + a] = f"blk.{i}.{b}"
    with torch.no_grad():
        for name, weight in model.named_parameters():
            matrix = weight.dim() > 1
            brain = matrix and "up_proj" in name
            if matrix:
                weight.copy_(rounded(weight, torch.bfloat16 if brain else torch.float16))
            values = weight.numpy()
            for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
                if part in name:
                    values = with_pairs_together(values, heads)
            name = names[name.removesuffix(".weight")] + ".weight"
            if brain:
                kind = gguf.GGMLQuantizationType.BF16
                writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
            else:
                writer.add_tensor(name, values.astype(np.float16) if matrix else values)
    # Symbols, then letters: as many as the model has.
    letters = [chr(c) for c in range(33, 127)][:config.vocab_size - 4]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "ab"] + letters
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ids = load_file(source / "golden.safetensors")["ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(ids).long()).logits.numpy()
    save_file(dict(ids=ids, logits=logits), ROOT / "gguf/golden.safetensors")


if __name__ == "__main__":
    (ROOT / "gguf").mkdir(exist_ok=True)
    make_blocks()
    make_model()
