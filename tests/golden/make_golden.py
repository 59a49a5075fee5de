#!/usr/bin/python3
"""Makes the golden numbers that tests/model/golden_test.cc holds the C++ model against.

    apt-get install python3-torch python3-numpy          # Debian 12: torch 1.13.1
    /usr/bin/python3 tests/golden/make_golden.py         # writes tests/golden/{gpt,llama}.safetensors

Everything here is written from the papers and from the prose of the headers, with PyTorch's autograd in float64, and
shares no code with the program: GPT-2 (Radford et al. 2019), LayerNorm (Ba et al. 2016), GELU in its tanh form
(Hendrycks & Gimpel 2016), Llama (Touvron et al. 2023): RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al.
2021, with the split-half pairing of the Llama checkpoints), SwiGLU (Shazeer 2020), grouped-query attention (Ainslie et
al. 2023); AdamW (Loshchilov & Hutter 2019); Philox 4x32-10 (Salmon et al. 2011). The initial weights and dropout masks
come from the same definition as runtime/random.h, in numpy.

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

import json
import math
import os
import struct

import numpy as np
import torch

torch.set_num_threads(1)
FLOAT = torch.float64

# ---- random numbers (runtime/random.h) ----


def philox(key, counter):
    """key: int of 64 bits; counter: array of u64 (the high half is 0) -> u32 [n, 4]."""
    mask = np.uint64(0xFFFFFFFF)
    low32 = lambda x: x & mask
    counter = np.asarray(counter, dtype=np.uint64)
    x = [low32(counter), counter >> np.uint64(32), np.zeros_like(counter), np.zeros_like(counter)]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * x[0]
        p1 = np.uint64(0xCD9E8D57) * x[2]
        x = [(p1 >> np.uint64(32)) ^ x[1] ^ np.uint64(k[0]), low32(p1),
             (p0 >> np.uint64(32)) ^ x[3] ^ np.uint64(k[1]), low32(p0)]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(x, axis=-1).astype(np.uint32)


def random_key(seed, name):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) % 2**64
    mixed = philox(seed, np.array([h], dtype=np.uint64))[0]
    return int(mixed[0]) << 32 | int(mixed[1])


def uniform(bits):
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def uniforms(key, elements):
    """Element i is lane i % 4 of block i / 4."""
    elements = np.asarray(elements, dtype=np.uint64)
    blocks = philox(key, elements.ravel() // np.uint64(4))
    lanes = (elements.ravel() % np.uint64(4)).astype(np.int64)
    return uniform(blocks[np.arange(lanes.size), lanes]).reshape(elements.shape)


def normals(key, n):
    """Box & Muller: lanes (0, 1) of block j give elements 4j, 4j + 1; lanes (2, 3) the two after."""
    u = uniform(philox(key, np.arange((n + 3) // 4, dtype=np.uint64)))
    out = np.empty(u.shape, dtype=np.float32)
    for a, b in ((0, 1), (2, 3)):
        radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - u[:, a]))
        angle = np.float32(2 * math.pi) * u[:, b]
        out[:, a], out[:, b] = radius * np.cos(angle), radius * np.sin(angle)
    return out.ravel()[:n]


# Known answers of the Random123 distribution (kat_vectors, philox4x32 10), for the counter's low half: zeros.
assert [hex(v) for v in philox(0, [0])[0]] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]

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


def f32(x):
    """Config values are floats: what the program reads is the nearest float32."""
    return float(np.float32(x))


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


def initial_weight(c, name, shape, kind):
    n = int(np.prod(shape))
    if kind in ("ones", "zeros"):
        return np.full(shape, 1 if kind == "ones" else 0, dtype=np.float32)
    deviation = np.float32(DEVIATION)
    if kind == "residual":
        deviation = deviation / np.sqrt(np.float32(2 * c["layers"]))
    return (deviation * normals(random_key(SEED, name), n)).astype(np.float32).reshape(shape)


def forward(c, w, ids, first_sample=0, dropout=0.0):
    """ids [B, T] -> logits [B, T, V]."""
    gpt = c["family"] == "GPT"
    B, T = ids.shape
    H, K, D = c["heads"], c["kv_heads"], c["head_dim"]

    def drop(x, site, elements):
        if dropout == 0:
            return x
        kept = uniforms(random_key(SEED, "dropout/" + site), elements) >= np.float32(dropout)
        return x * torch.tensor(kept, dtype=FLOAT) / (1 - dropout)

    def drop_rows(x, site):  # x [B, T, C], rows counted over the run
        rows = (first_sample + np.arange(B))[:, None, None] * T + np.arange(T)[None, :, None]
        return drop(x, site, rows * x.shape[2] + np.arange(x.shape[2]))

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
            weights = drop(weights, name + ".weights", elements)
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


def norm_of(gradients):
    return math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))


def learning_rate(step):
    o = OPTIMIZER
    peak = f32(o["learning_rate"])
    if step <= o["warmup_steps"]:
        return peak * step / o["warmup_steps"]
    final = peak * f32(o["final_share"])
    progress = (step - o["warmup_steps"]) / (STEPS - o["warmup_steps"])
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))


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


def sampled(x):
    x = np.asarray(x, dtype=np.float32).ravel()
    return x[::max(1, x.size // 16 | 1)][:16]


# ---- output ----


def write_safetensors(path, tensors, metadata):
    names = {"float32": "F32", "float64": "F64", "int32": "I32"}
    header, at, data = {"__metadata__": metadata}, 0, b""
    for name, x in tensors.items():
        x = np.ascontiguousarray(x)
        header[name] = {"dtype": names[str(x.dtype)], "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
        data += x.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def run_config(c):
    lines = ["model {"] + [f"  {k}: {v}" for k, v in c.items()]
    lines += [f"  norm_epsilon: {EPSILON}", f"  initial_deviation: {DEVIATION}", "}", "training {",
              f"  steps: {STEPS} global_batch: {BATCH} seed: {SEED}", "  optimizer { schedule: COSINE"]
    lines += [f"    {k}: {v}" for k, v in OPTIMIZER.items()] + ["  }", "}"]
    return "\n".join(lines)


def make(name):
    c = MODELS[name]
    T, V = c["sequence_length"], c["vocabulary"]
    tokens = sample_tokens(V, T)
    w = {n: torch.tensor(initial_weight(c, n, *p), dtype=FLOAT, requires_grad=True) for n, p in declare(c).items()}
    out = {"tokens": tokens}
    out.update({"initial/" + n: sampled(x.detach().numpy()) for n, x in w.items()})

    def gradients_of(step, dropout=0.0):
        ids = torch.tensor(tokens[step - 1], dtype=torch.int64)
        logits = forward(c, w, ids[:, :T], first_sample=(step - 1) * BATCH, dropout=dropout)
        each = token_losses(logits, ids[:, 1:])
        gradients = dict(zip(w, torch.autograd.grad(each.mean(), list(w.values()))))
        return logits.detach().numpy(), each.detach().numpy(), gradients

    if name == "gpt":
        _, each, gradients = gradients_of(1, DROPOUT)
        out["dropout_losses"] = each
        out["dropout_norm"] = np.array([norm_of(gradients)])
        out.update({"dropout_gradient/" + n: sampled(g.numpy()) for n, g in gradients.items()})

    o = {k: f32(v) for k, v in OPTIMIZER.items()}
    m = {n: torch.zeros_like(x) for n, x in w.items()}
    v = {n: torch.zeros_like(x) for n, x in w.items()}
    losses, norms = [], []
    for step in range(1, STEPS + 1):
        logits, each, gradients = gradients_of(step)
        norm = norm_of(gradients)
        losses.append(each.mean())
        norms.append(norm)
        if step == 1:
            out["logits"] = logits[0].astype(np.float32)
            out["token_losses"] = each
            out.update({"gradient/" + n: g.numpy().astype(np.float32) for n, g in gradients.items()})
        scale = min(1.0, o["clip_norm"] / norm)
        rate = learning_rate(step)
        with torch.no_grad():
            for n, x in w.items():
                g = gradients[n] * scale
                m[n] = o["beta1"] * m[n] + (1 - o["beta1"]) * g
                v[n] = o["beta2"] * v[n] + (1 - o["beta2"]) * g**2
                m_hat, v_hat = m[n] / (1 - o["beta1"]**step), v[n] / (1 - o["beta2"]**step)
                x -= rate * (m_hat / (torch.sqrt(v_hat) + o["epsilon"]) + (o["weight_decay"] if decays(n) else 0) * x)
    print(name, "losses", np.round(losses, 4), "norms", np.round(norms, 4), "parameters",
          sum(x.numel() for x in w.values()))
    assert min(norms) < OPTIMIZER["clip_norm"] < max(norms), "some steps must clip and some must not"
    out["losses"], out["norms"] = np.array(losses), np.array(norms)
    out.update({"final/" + n: sampled(x.detach().numpy()) for n, x in w.items()})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".safetensors")
    write_safetensors(path, out, {"run": run_config(c), "dropout": str(DROPOUT)})
    print(path, os.path.getsize(path), "bytes")


for model in MODELS:
    make(model)
