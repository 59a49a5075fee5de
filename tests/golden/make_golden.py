#!/usr/bin/python3
"""Makes the golden numbers that tests/model/golden_test.cc holds the C++ model against.

    apt-get install python3-torch python3-numpy          # Debian 12: torch 1.13.1
    /usr/bin/python3 tests/golden/make_golden.py [NAME...]   # writes tests/golden/NAME.safetensors, left out: all

With transformers installed (a torch of PyPI's then) those that are like its models are compared with them.

Everything here is written from the papers and from the prose of the headers, with PyTorch's autograd in float64, and
shares no code with the program: GPT-2 (Radford et al. 2019), LayerNorm (Ba et al. 2016), GELU in its tanh form
(Hendrycks & Gimpel 2016), Llama (Touvron et al. 2023): RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al.
2021, with the split-half pairing of the Llama checkpoints), SwiGLU (Shazeer 2020), grouped-query attention (Ainslie et
al. 2023); and what decoders of others have besides: norms of queries and keys (Qwen3), rotary positions that are scaled
(Llama 3.1; YaRN: Peng et al. 2023), sliding windows (Mistral, Qwen2), biases. Random numbers and AdamW are
golden_tools.py's.

A fixture holds, besides the config in its metadata ("run" is a RunConfig in protobuf text format):
    tokens           i32 [steps, B, T + 1]   sample k of step s; inputs are [:T], targets [1:]
    initial/NAME     f32 [n]                 every stride-th element of the initial weight, n <= 16
    logits           f32 [T, V]              of the first sample of step 1
    token_losses     f64 [B, T]              step 1
    gradient/NAME    f32 [shape]             step 1: of the mean loss per token of the global batch
    losses, norms    f64 [steps]             mean loss and gradient norm (before clipping) of each step
    final/NAME       f32 [n]                 weights after all steps, sampled like initial/
    dropout_losses   f64 [B, T], dropout_norm f64 [1], dropout_gradient/NAME f32 [n] sampled: step 1 with dropout (gpt)
"""

import math
import sys

import numpy as np
import torch

from golden_tools import (FLOAT, drop, f32, initial_weight, norm_of, record_training, sampled, training_config,
                          write_fixture)

# ---- the models ----

SMALL = dict(family="LLAMA", layers=2, hidden=16, heads=4, kv_heads=2, head_dim=8, feed_forward=24, vocabulary=61,
             sequence_length=16)
MODELS = {
    "gpt": dict(family="GPT", layers=3, hidden=32, heads=4, kv_heads=4, head_dim=8, feed_forward=64, vocabulary=61,
                sequence_length=16),
    "llama": dict(family="LLAMA", layers=3, hidden=32, heads=4, kv_heads=2, head_dim=8, feed_forward=48,
                  vocabulary=61, sequence_length=16, rope_theta=10000),
    "qwen3": dict(SMALL, tied="true", qk_norm="true", rope_theta=100,
                  rope_scaling=dict(kind="YARN", factor=4, original_length=64, beta_fast=32, beta_slow=1,
                                    attention_factor=1.25)),
    "llama3": dict(SMALL, rope_theta=30, qkv_bias="true", attention_output_bias="true", mlp_bias="true",
                   rope_scaling=dict(kind="LLAMA3", factor=8, original_length=32, low_frequency_factor=1,
                                     high_frequency_factor=4)),
    "mistral": dict(SMALL, rope_theta=10000, sliding_window=5),
    "qwen2": dict(SMALL, rope_theta=1000, qkv_bias="true", tied="true", sliding_window=3, first_window_layer=1),
}
CLIPS = {"mistral": 2, "qwen2": 2}  # of the others OPTIMIZER's
SEED = 4242
EPSILON = 1e-5
DEVIATION = 0.08  # larger than usual: a tiny model's gradients would hardly depend on its deeper layers
BATCH, STEPS = 4, 10
DROPOUT = 0.125
OPTIMIZER = dict(learning_rate=1e-2, final_share=0.1, beta1=0.9, beta2=0.95, epsilon=1e-6, weight_decay=0.1,
                 clip_norm=2.5, warmup_steps=4)


def tied(c):
    return c["family"] == "GPT" or "tied" in c


def declare(c):
    """name -> (shape, kind), in no particular order; kind: "normal", "residual" (smaller), "ones", "zeros"."""
    gpt = c["family"] == "GPT"
    C, F, V, D = c["hidden"], c["feed_forward"], c["vocabulary"], c["head_dim"]
    parameters = {"embedding.token.weight": ((V, C), "normal")}
    if gpt:
        parameters["embedding.position.weight"] = ((c["sequence_length"], C), "normal")

    def norm(name):
        parameters[name + ".weight"] = ((C,), "ones")
        if gpt:
            parameters[name + ".bias"] = ((C,), "zeros")

    def linear(name, outputs, inputs, kind="normal", bias=""):
        parameters[name + ".weight"] = ((outputs, inputs), kind)
        if gpt or bias in c:
            parameters[name + ".bias"] = ((outputs,), "zeros")

    for i in range(c["layers"]):
        block = f"blocks.{i}."
        norm(block + "attention_norm")
        linear(block + "attention.q", c["heads"] * D, C, bias="qkv_bias")
        linear(block + "attention.k", c["kv_heads"] * D, C, bias="qkv_bias")
        linear(block + "attention.v", c["kv_heads"] * D, C, bias="qkv_bias")
        linear(block + "attention.output", C, c["heads"] * D, "residual", bias="attention_output_bias")
        if "qk_norm" in c:
            parameters[block + "attention.q_norm.weight"] = ((D,), "ones")
            parameters[block + "attention.k_norm.weight"] = ((D,), "ones")
        norm(block + "mlp_norm")
        if not gpt:
            linear(block + "mlp.gate", F, C, bias="mlp_bias")
        linear(block + "mlp.up", F, C, bias="mlp_bias")
        linear(block + "mlp.down", C, F, "residual", bias="mlp_bias")
    norm("head.norm")
    if not tied(c):
        parameters["head.output.weight"] = ((V, C), "normal")
    return parameters


def initial(c, kind):
    """As golden_tools.initial_weight takes it."""
    if kind in ("ones", "zeros"):
        return kind
    return np.float32(DEVIATION) / (np.sqrt(np.float32(2 * c["layers"])) if kind == "residual" else np.float32(1))


def frequencies(c):
    """Of the pairs of a head, and what turned queries and keys are multiplied by."""
    D, theta, pair = c["head_dim"], c["rope_theta"], torch.arange(c["head_dim"] // 2, dtype=FLOAT)
    frequency = theta ** (-2 * pair / D)
    scaling = c.get("rope_scaling")
    if scaling is None:
        return frequency, 1
    if scaling["kind"] == "LLAMA3":
        low, high = scaling["low_frequency_factor"], scaling["high_frequency_factor"]
        turns = scaling["original_length"] * frequency / (2 * math.pi)
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return kept * frequency + (1 - kept) * frequency / scaling["factor"], 1
    pair_of = lambda turns: D * math.log(scaling["original_length"] / (turns * 2 * math.pi)) / (2 * math.log(theta))
    low, high = max(math.floor(pair_of(scaling["beta_fast"])), 0), min(math.ceil(pair_of(scaling["beta_slow"])), D - 1)
    kept = 1 - ((pair - low) / (high - low)).clamp(0, 1)
    return kept * frequency + (1 - kept) * frequency / scaling["factor"], f32(scaling["attention_factor"])


def forward(c, w, ids, first_sample=0, dropout=0.0):
    """ids [B, T] -> logits [B, T, V]."""
    gpt = c["family"] == "GPT"
    B, T = ids.shape
    H, K, D = c["heads"], c["kv_heads"], c["head_dim"]

    def drop_rows(x, site):  # x [B, T, C], rows counted over the run
        rows = (first_sample + np.arange(B))[:, None, None] * T + np.arange(T)[None, :, None]
        return drop_elements(x, site, rows * x.shape[2] + np.arange(x.shape[2]))

    def drop_elements(x, site, elements):
        return x if dropout == 0 else drop(x, SEED, site, elements, dropout)

    def linear(x, name):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    def norm(x, name):
        if gpt:
            centered = x - x.mean(-1, keepdim=True)
            variance = (centered**2).mean(-1, keepdim=True)
            return centered / torch.sqrt(variance + f32(EPSILON)) * w[name + ".weight"] + w[name + ".bias"]
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + f32(EPSILON)) * w[name + ".weight"]

    def rotate(x):  # x [B, T, heads, D]: pairs (i, i + D/2)
        half = D // 2
        frequency, magnitude = frequencies(c)
        angle = torch.arange(T, dtype=FLOAT)[:, None] * frequency  # [T, D/2]
        cos, sin = magnitude * torch.cos(angle)[:, None, :], magnitude * torch.sin(angle)[:, None, :]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def attention(h, name, layer):
        q = linear(h, name + ".q").reshape(B, T, H, D)
        k = linear(h, name + ".k").reshape(B, T, K, D)
        v = linear(h, name + ".v").reshape(B, T, K, D)
        if "qk_norm" in c:
            q, k = norm(q, name + ".q_norm"), norm(k, name + ".k_norm")
        if not gpt:
            q, k = rotate(q), rotate(k)
        k, v = k.repeat_interleave(H // K, dim=2), v.repeat_interleave(H // K, dim=2)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
        unseen = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
        if "sliding_window" in c and layer >= c.get("first_window_layer", 0):
            unseen = unseen | torch.tril(torch.ones(T, T, dtype=torch.bool), -c["sliding_window"])
        scores = scores.masked_fill(unseen, -math.inf)
        weights = torch.softmax(scores, dim=-1)
        if gpt:
            rows = ((first_sample + np.arange(B))[:, None] * H + np.arange(H)) * T
            elements = (rows[:, :, None, None] + np.arange(T)[:, None]) * T + np.arange(T)
            weights = drop_elements(weights, name + ".weights", elements)
        return linear(torch.einsum("bhqk,bkhd->bqhd", weights, v).reshape(B, T, H * D), name + ".output")

    def mlp(h, name):
        if gpt:
            f = linear(h, name + ".up")
            a = 0.5 * f * (1 + torch.tanh(math.sqrt(2 / math.pi) * (f + 0.044715 * f**3)))
        else:
            gate = linear(h, name + ".gate")
            a = gate / (1 + torch.exp(-gate)) * linear(h, name + ".up")
        return linear(a, name + ".down")

    x = w["embedding.token.weight"][ids]
    if gpt:
        x = drop_rows(x + w["embedding.position.weight"][:T], "embedding")
    for i in range(c["layers"]):
        block = f"blocks.{i}."
        x = x + drop_rows(attention(norm(x, block + "attention_norm"), block + "attention", i), block + "attention")
        x = x + drop_rows(mlp(norm(x, block + "mlp_norm"), block + "mlp"), block + "mlp")
    output = w["embedding.token.weight"] if tied(c) else w["head.output.weight"]
    return norm(x, "head.norm") @ output.T


def token_losses(logits, targets):
    return torch.logsumexp(logits, -1) - logits.gather(-1, targets[..., None])[..., 0]


def decays(name):
    """Matrices and embeddings decay; norms and biases do not."""
    return name.endswith(".weight") and "norm" not in name


def sample_tokens(vocabulary, length):
    """Something to learn: mostly one fixed successor of each token, of few tokens; every id occurs somewhere."""
    random = np.random.default_rng(7)
    tokens = random.integers(0, vocabulary, size=(STEPS, BATCH, length + 1), dtype=np.int32)
    for t in range(length):
        follow = random.random((STEPS, BATCH)) < 0.8
        tokens[:, :, t + 1] = np.where(follow, (tokens[:, :, t] * 5 + 3) % 7 * 8, tokens[:, :, t + 1])
    return tokens


def run_config(c, optimizer):
    text = lambda v: "{ " + " ".join(f"{k}: {x}" for k, x in v.items()) + " }" if isinstance(v, dict) else v
    lines = ["model {"] + [f"  {k}: {text(v)}" for k, v in c.items()]
    lines += [f"  norm_epsilon: {EPSILON}", f"  initial_deviation: {DEVIATION}", "}"]
    return "\n".join(lines + training_config(STEPS, BATCH, SEED, optimizer))


def make(name):
    c = MODELS[name]
    T, V, optimizer = c["sequence_length"], c["vocabulary"], dict(OPTIMIZER, clip_norm=CLIPS.get(name, OPTIMIZER["clip_norm"]))
    tokens = sample_tokens(V, T)
    w = {n: torch.tensor(initial_weight(SEED, n, shape, initial(c, kind)), dtype=FLOAT, requires_grad=True)
         for n, (shape, kind) in declare(c).items()}
    out = {"tokens": tokens}
    out.update({"initial/" + n: sampled(x.detach().numpy()) for n, x in w.items()})

    def gradients_of(step, dropout=0.0):
        ids = torch.tensor(tokens[step - 1], dtype=torch.int64)
        logits = forward(c, w, ids[:, :T], first_sample=(step - 1) * BATCH, dropout=dropout)
        each = token_losses(logits, ids[:, 1:])
        gradients = dict(zip(w, torch.autograd.grad(each.mean(), list(w.values()))))
        each = each.detach().numpy()
        return logits[0].detach().numpy(), each, each.mean(), gradients

    if name == "gpt":
        _, each, _, gradients = gradients_of(1, DROPOUT)
        out["dropout_losses"] = each
        out["dropout_norm"] = np.array([norm_of(gradients)])
        out.update({"dropout_gradient/" + n: sampled(g.numpy()) for n, g in gradients.items()})

    print(name)
    record_training(out, w, optimizer, STEPS, {n for n in w if decays(n)}, gradients_of)
    write_fixture(name, out, {"run": run_config(c, optimizer), "dropout": str(DROPOUT)})


def check_with_transformers(names):
    """A second opinion: random weights, and biases and norms that are no zeros and ones, in its decoders."""
    from golden_check_decoders import DECODERS, logits_of
    random = np.random.default_rng(3)
    ids = torch.tensor(sample_tokens(61, 16)[0, :, :16], dtype=torch.int64)
    for name in [name for name in names if name in DECODERS]:
        c = MODELS[name]
        w = {n: torch.tensor(random.normal(1 if kind == "ones" else 0, 0.3, shape), dtype=FLOAT)
             for n, (shape, kind) in declare(c).items()}
        ours, theirs = forward(c, w, ids), logits_of(name, c, w, ids)
        difference = float((ours - theirs).abs().max())
        print(f"{name:8} logits of {float(ours.abs().max()):6.3f} differ by {difference:.1e} from transformers'")
        assert difference < 1e-5


chosen = sys.argv[1:] or list(MODELS)
for model in chosen:
    make(model)
try:
    import transformers
except ImportError:
    print("transformers is not installed: nothing was compared with it")
else:
    check_with_transformers(chosen)
