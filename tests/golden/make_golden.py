#!/usr/bin/python3
"""Makes the golden numbers that tests/model/golden_test.cc holds the C++ model against.

    apt-get install python3-torch python3-numpy          # Debian 12: torch 1.13.1
    /usr/bin/python3 tests/golden/make_golden.py         # writes tests/golden/{gpt,llama}.safetensors

Everything here is written from the papers and from the prose of the headers, with PyTorch's autograd in float64, and
shares no code with the program: GPT-2 (Radford et al. 2019), LayerNorm (Ba et al. 2016), GELU in its tanh form
(Hendrycks & Gimpel 2016), Llama (Touvron et al. 2023): RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al.
2021, with the split-half pairing of the Llama checkpoints), SwiGLU (Shazeer 2020), grouped-query attention (Ainslie et
al. 2023). Random numbers and AdamW are golden_tools.py's.

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

import numpy as np
import torch

from golden_tools import (FLOAT, drop, f32, initial_weight, norm_of, record_training, sampled, training_config,
                          write_fixture)

# ---- the models ----

MODELS = {
    "gpt": dict(family="GPT", layers=3, hidden=32, heads=4, kv_heads=4, head_dim=8, feed_forward=64, vocabulary=61,
                sequence_length=16),
    "llama": dict(family="LLAMA", layers=3, hidden=32, heads=4, kv_heads=2, head_dim=8, feed_forward=48,
                  vocabulary=61, sequence_length=16, rope_theta=10000),
}
SEED = 4242
EPSILON = 1e-5
DEVIATION = 0.08  # larger than usual: a tiny model's gradients would hardly depend on its deeper layers
BATCH, STEPS = 4, 10
DROPOUT = 0.125
OPTIMIZER = dict(learning_rate=1e-2, final_share=0.1, beta1=0.9, beta2=0.95, epsilon=1e-6, weight_decay=0.1,
                 clip_norm=2.5, warmup_steps=4)


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

    def linear(name, outputs, inputs, kind="normal"):
        parameters[name + ".weight"] = ((outputs, inputs), kind)
        if gpt:
            parameters[name + ".bias"] = ((outputs,), "zeros")

    for i in range(c["layers"]):
        block = f"blocks.{i}."
        norm(block + "attention_norm")
        linear(block + "attention.q", c["heads"] * D, C)
        linear(block + "attention.k", c["kv_heads"] * D, C)
        linear(block + "attention.v", c["kv_heads"] * D, C)
        linear(block + "attention.output", C, c["heads"] * D, "residual")
        norm(block + "mlp_norm")
        if not gpt:
            linear(block + "mlp.gate", F, C)
        linear(block + "mlp.up", F, C)
        linear(block + "mlp.down", C, F, "residual")
    norm("head.norm")
    if not gpt:
        parameters["head.output.weight"] = ((V, C), "normal")
    return parameters


def initial(c, kind):
    """As golden_tools.initial_weight takes it."""
    if kind in ("ones", "zeros"):
        return kind
    return np.float32(DEVIATION) / (np.sqrt(np.float32(2 * c["layers"])) if kind == "residual" else np.float32(1))


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
        return y + w[name + ".bias"] if gpt else y

    def norm(x, name):
        if gpt:
            centered = x - x.mean(-1, keepdim=True)
            variance = (centered**2).mean(-1, keepdim=True)
            return centered / torch.sqrt(variance + f32(EPSILON)) * w[name + ".weight"] + w[name + ".bias"]
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + f32(EPSILON)) * w[name + ".weight"]

    def rotate(x):  # x [B, T, heads, D]: pairs (i, i + D/2)
        half = D // 2
        frequency = c["rope_theta"] ** (-2 * torch.arange(half, dtype=FLOAT) / D)
        angle = torch.arange(T, dtype=FLOAT)[:, None] * frequency  # [T, D/2]
        cos, sin = torch.cos(angle)[:, None, :], torch.sin(angle)[:, None, :]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def attention(h, name):
        q = linear(h, name + ".q").reshape(B, T, H, D)
        k = linear(h, name + ".k").reshape(B, T, K, D)
        v = linear(h, name + ".v").reshape(B, T, K, D)
        if not gpt:
            q, k = rotate(q), rotate(k)
        k, v = k.repeat_interleave(H // K, dim=2), v.repeat_interleave(H // K, dim=2)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
        scores = scores.masked_fill(torch.triu(torch.ones(T, T, dtype=torch.bool), 1), -math.inf)
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
        x = x + drop_rows(attention(norm(x, block + "attention_norm"), block + "attention"), block + "attention")
        x = x + drop_rows(mlp(norm(x, block + "mlp_norm"), block + "mlp"), block + "mlp")
    output = w["embedding.token.weight"] if gpt else w["head.output.weight"]
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


def run_config(c):
    lines = ["model {"] + [f"  {k}: {v}" for k, v in c.items()]
    lines += [f"  norm_epsilon: {EPSILON}", f"  initial_deviation: {DEVIATION}", "}"]
    return "\n".join(lines + training_config(STEPS, BATCH, SEED, OPTIMIZER))


def make(name):
    c = MODELS[name]
    T, V = c["sequence_length"], c["vocabulary"]
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
    record_training(out, w, OPTIMIZER, STEPS, {n for n in w if decays(n)}, gradients_of)
    write_fixture(name, out, {"run": run_config(c), "dropout": str(DROPOUT)})


for model in MODELS:
    make(model)
