"""A second opinion on the decoders of make_golden.py: the same weights in the models of `transformers`."""

import torch
import transformers

from golden_tools import FLOAT

# Our names to theirs: of these, in order, each that occurs in a name is replaced.
NAMES = [("embedding.token", "model.embed_tokens"), ("blocks.", "model.layers."), ("attention_norm", "input_layernorm"),
         ("mlp_norm", "post_attention_layernorm"), ("attention.output", "self_attn.o_proj"),
         ("attention.", "self_attn."), (".q.", ".q_proj."), (".k.", ".k_proj."), (".v.", ".v_proj."),
         ("mlp.gate", "mlp.gate_proj"), ("mlp.up", "mlp.up_proj"), ("mlp.down", "mlp.down_proj"),
         ("head.norm", "model.norm"), ("head.output", "lm_head")]
KINDS = {"LLAMA3": "llama3", "YARN": "yarn"}


def rope(c):
    scaling = c.get("rope_scaling")
    if scaling is None:
        return dict(rope_theta=c["rope_theta"], rope_type="default")
    names = dict(low_frequency_factor="low_freq_factor", high_frequency_factor="high_freq_factor",
                 original_length="original_max_position_embeddings")
    values = {names.get(k, k): v for k, v in scaling.items() if k != "kind"}
    return dict(values, rope_theta=c["rope_theta"], rope_type=KINDS[scaling["kind"]])


def sizes(c):
    return dict(vocab_size=c["vocabulary"], hidden_size=c["hidden"], num_hidden_layers=c["layers"],
                num_attention_heads=c["heads"], num_key_value_heads=c["kv_heads"], head_dim=c["head_dim"],
                intermediate_size=c["feed_forward"], max_position_embeddings=256, rms_norm_eps=1e-5,
                tie_word_embeddings="tied" in c, rope_parameters=rope(c), attn_implementation="eager")


def llama3(c):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(attention_bias=True, mlp_bias=True, **sizes(c)))


def qwen3(c):
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes(c)))


def mistral(c):
    return transformers.MistralForCausalLM(
        transformers.MistralConfig(sliding_window=c["sliding_window"], **sizes(c)))


def qwen2(c):
    return transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(use_sliding_window=True, sliding_window=c["sliding_window"],
                                 max_window_layers=c["first_window_layer"], **sizes(c)))


DECODERS = {"llama3": llama3, "qwen3": qwen3, "mistral": mistral, "qwen2": qwen2}


def logits_of(name, c, weights, ids):
    model = DECODERS[name](c).to(FLOAT).eval()
    state = {}
    for ours, x in weights.items():
        theirs = ours
        for a, b in NAMES:
            theirs = theirs.replace(a, b)
        state[theirs] = x
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and missing in ([], ["lm_head.weight"]), (missing, unexpected)
    model.tie_weights()
    with torch.no_grad():
        return model(input_ids=ids).logits
