"""What the scripts of golden numbers share: random numbers, AdamW, what is recorded of a training, and fixtures.

Written from the papers and from the prose of the headers: Philox 4x32-10 (Salmon et al. 2011), AdamW (Loshchilov &
Hutter 2019), cosine decay (Loshchilov & Hutter 2017). Initial weights and dropout masks come from the same definition
as runtime/random.h, in numpy.
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


def f32(x):
    """Config values are floats: what the program reads is the nearest float32."""
    return float(np.float32(x))


def initial_weight(seed, name, shape, initial):
    """initial: "ones", "zeros", or the standard deviation of normal values, a np.float32."""
    if initial in ("ones", "zeros"):
        return np.full(shape, 1 if initial == "ones" else 0, dtype=np.float32)
    return (initial * normals(random_key(seed, name), int(np.prod(shape)))).astype(np.float32).reshape(shape)


def drop(x, seed, site, elements, probability):
    """x with some elements dropped: `elements` are their numbers in the tensor of the whole run."""
    kept = uniforms(random_key(seed, "dropout/" + site), elements) >= np.float32(probability)
    return x * torch.tensor(kept, dtype=FLOAT) / (1 - probability)


# ---- training ----


def norm_of(gradients):
    return math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))


def learning_rate(optimizer, steps, step):
    o = optimizer
    peak = f32(o["learning_rate"])
    if step <= o["warmup_steps"]:
        return peak * step / o["warmup_steps"]
    final = peak * f32(o["final_share"])
    progress = (step - o["warmup_steps"]) / (steps - o["warmup_steps"])
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))


class AdamW:
    """Updates weights {name: tensor}; decays: names that weight decay applies to."""

    def __init__(self, weights, optimizer, steps, decays):
        self.weights, self.optimizer, self.steps, self.decays = weights, optimizer, steps, decays
        self.m = {n: torch.zeros_like(x) for n, x in weights.items()}
        self.v = {n: torch.zeros_like(x) for n, x in weights.items()}

    def update(self, step, gradients):
        o = {k: f32(v) for k, v in self.optimizer.items()}
        scale = min(1.0, o["clip_norm"] / norm_of(gradients))
        rate = learning_rate(self.optimizer, self.steps, step)
        m, v = self.m, self.v
        with torch.no_grad():
            for n, x in self.weights.items():
                g = gradients[n] * scale
                m[n] = o["beta1"] * m[n] + (1 - o["beta1"]) * g
                v[n] = o["beta2"] * v[n] + (1 - o["beta2"]) * g**2
                m_hat, v_hat = m[n] / (1 - o["beta1"]**step), v[n] / (1 - o["beta2"]**step)
                decay = o["weight_decay"] if n in self.decays else 0
                x -= rate * (m_hat / (torch.sqrt(v_hat) + o["epsilon"]) + decay * x)


def sampled(x):
    x = np.asarray(x, dtype=np.float32).ravel()
    return x[::max(1, x.size // 16 | 1)][:16]


def record_training(out, weights, optimizer, steps, decays, gradients_of):
    """Trains, and adds to `out` what a fixture holds of it: logits, token_losses, gradient/, losses, norms, final/.

    gradients_of(step): logits of the first sample, losses of targets, the loss, gradients {name: tensor}.
    """
    adamw = AdamW(weights, optimizer, steps, decays)
    losses, norms = [], []
    for step in range(1, steps + 1):
        logits, each, loss, gradients = gradients_of(step)
        losses.append(loss)
        norms.append(norm_of(gradients))
        if step == 1:
            out["logits"] = logits.astype(np.float32)
            out["token_losses"] = each
            out.update({"gradient/" + n: g.numpy().astype(np.float32) for n, g in gradients.items()})
        adamw.update(step, gradients)
    print("losses", np.round(losses, 4), "norms", np.round(norms, 4), "parameters",
          sum(x.numel() for x in weights.values()))
    assert min(norms) < optimizer["clip_norm"] < max(norms), "some steps must clip and some must not"
    out["losses"], out["norms"] = np.array(losses), np.array(norms)
    out.update({"final/" + n: sampled(x.detach().numpy()) for n, x in weights.items()})


# ---- output ----


def write_fixture(name, tensors, metadata):
    """NAME.safetensors beside the scripts."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".safetensors")
    write_safetensors(path, tensors, metadata)
    print(path, os.path.getsize(path), "bytes")


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


def training_config(steps, batch, seed, optimizer):
    """The training of a RunConfig in protobuf text format."""
    lines = ["training {", f"  steps: {steps} global_batch: {batch} seed: {seed}", "  optimizer { schedule: COSINE"]
    return lines + [f"    {k}: {v}" for k, v in optimizer.items()] + ["  }", "}"]
