"""The networks of make_golden_families.py: their parameters, and what they say of a batch.

From the papers, in their order of model.proto: BERT (Devlin et al. 2019), an encoder with RMSNorm, rotary positions and
GEGLU (after Warner et al. 2024), the Transformer (Vaswani et al. 2017), T5 1.1 (Raffel et al. 2020; Shazeer 2020), ViT
(Dosovitskiy et al. 2021), the masked autoencoder (He et al. 2022), recurrent networks (Elman 1990; Hochreiter &
Schmidhuber 1997; Gers et al. 2000). GELU as x Phi(x), or in its tanh form (Hendrycks & Gimpel 2016).

A config is a dict of model.proto's fields, all that matter here set. Batches are dicts of the tensors of data/batch.h.
"""

import math

import numpy as np
import torch

from golden_tools import FLOAT, drop, f32

BUCKETS, FARTHEST = 32, 128  # of relative positions (Raffel et al. 2020, section 2.1)


def gelu_erf(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# Norms behind the branches, or before them; deviation: of weights where the config gives 0, from inputs and outputs.
RECIPES = {
    "BERT": dict(norms_behind=True, activation=gelu_erf, biases=True, layer_norm=True, epsilon=1e-12),
    "MODERN_BERT": dict(norms_behind=False, activation=gelu_erf, biases=False, layer_norm=False, epsilon=1e-5),
    "TRANSFORMER": dict(norms_behind=True, activation=torch.relu, biases=True, layer_norm=True, epsilon=1e-5,
                        deviation=lambda i, o: np.sqrt(np.float32(2) / np.float32(i + o))),
    "T5": dict(norms_behind=False, activation=gelu_tanh, biases=False, layer_norm=False, epsilon=1e-6,
               deviation=lambda i, o: np.float32(1) / np.sqrt(np.float32(i))),
    "VIT": dict(norms_behind=False, activation=gelu_erf, biases=True, layer_norm=True, epsilon=1e-12),
    "RNN": dict(deviation=lambda i, o: np.float32(1) / np.sqrt(np.float32(i))),
    "LSTM": dict(deviation=lambda i, o: np.float32(1) / np.sqrt(np.float32(i))),
}
GATED = ("MODERN_BERT", "T5")  # unless the config says otherwise
ACTIVATIONS = {"RELU": torch.relu}
PAIRS = ("TRANSFORMER", "T5")
RECURRENT = ("RNN", "LSTM")


def patch_values(c):
    return c["channels"] * c["patch_size"]**2


def image_places(c):
    return 1 + (c["image_size"] // c["patch_size"])**2


# ---- parameters ----


class Declared:
    """name -> (shape, initial as golden_tools.initial_weight takes it), and the names that decay."""

    def __init__(self, c):
        self.c, self.recipe = c, RECIPES[c["family"]]
        self.parameters, self.decays = {}, set()

    def deviation(self, inputs, outputs, residual=False):
        given = np.float32(self.c.get("initial_deviation", 0))
        if given == 0:
            return self.recipe["deviation"](inputs, outputs)
        if residual and self.c["family"] == "MODERN_BERT":
            return given / np.sqrt(np.float32(2 * self.c["layers"]))
        return given

    def add(self, name, shape, initial, decays=False):
        self.parameters[name] = (shape, initial)
        if decays:
            self.decays.add(name)

    def norm(self, name, width):
        self.add(name + ".weight", (width,), "ones")
        if self.recipe["layer_norm"]:
            self.add(name + ".bias", (width,), "zeros")

    def linear(self, name, outputs, inputs, bias, residual=False, fan_in=None):
        """fan_in: what the initial deviation takes for the inputs."""
        self.add(name + ".weight", (outputs, inputs), self.deviation(fan_in or inputs, outputs, residual), True)
        if bias:
            self.add(name + ".bias", (outputs,), "zeros")

    def attention(self, name, c):
        C, width = c["hidden"], c["heads"] * c["head_dim"]
        bias = self.recipe["biases"]
        # T5's scores are not divided by sqrt(D): its queries begin so much smaller.
        self.linear(name + ".q", width, C, bias, fan_in=C * c["head_dim"] if c["family"] == "T5" else C)
        self.linear(name + ".k", width, C, bias)
        self.linear(name + ".v", width, C, bias)
        self.linear(name + ".output", C, width, bias, residual=True)

    def block(self, name, c, cross=False):
        C, F, bias = c["hidden"], c["feed_forward"], self.recipe["biases"]
        self.norm(name + ".attention_norm", C)
        self.attention(name + ".attention", c)
        if cross:
            self.norm(name + ".cross_norm", C)
            self.attention(name + ".cross", c)
        self.norm(name + ".mlp_norm", C)
        if c["family"] in GATED and c.get("gated") != "false":
            self.linear(name + ".mlp.gate", F, C, bias)
        self.linear(name + ".mlp.up", F, C, bias)
        self.linear(name + ".mlp.down", C, F, bias, residual=True)


def declare(c):
    d = Declared(c)
    family, C = c["family"], c["hidden"]
    given = np.float32(c.get("initial_deviation", 0))
    if family == "VIT":
        d.linear("embedding.patch", C, patch_values(c), bias=False)
        d.add("embedding.patch.bias", (1, C), "zeros")
        d.add("embedding.class_token", (1, C), given)
        d.add("embedding.position.weight", (image_places(c), C), given)
    else:
        # What is looked up is of deviation 1, times sqrt(C) of the Transformer.
        of_rows = given or np.float32(1) / (np.sqrt(np.float32(C)) if family == "TRANSFORMER" else np.float32(1))
        d.add("embedding.token.weight", (c["vocabulary"], C), of_rows, True)
        if family == "BERT":
            d.add("embedding.position.weight", (c["sequence_length"], C), of_rows, True)
            d.add("embedding.segment.weight", (2, C), of_rows, True)
            d.norm("embedding.norm", C)
    if family in RECURRENT:
        directions = ("forward", "backward") if c.get("bidirectional") else ("forward",)
        units = C // len(directions)
        for layer in range(c["layers"]):
            for name in [f"layers.{layer}.{direction}" for direction in directions]:
                for gate in "h" if family == "RNN" else "ifgo":
                    d.linear(f"{name}.input.{gate}", units, C, bias=False)
                    d.add(f"{name}.input.{gate}.bias", (units,), "ones" if gate == "f" else "zeros")
                    d.linear(f"{name}.recurrent.{gate}", units, units, bias=False)
    else:
        for i in range(c["layers"]):
            d.block(f"blocks.{i}", c)
    if family in PAIRS:
        if family == "T5":
            d.norm("encoder.norm", C)
            for side in ("encoder", "decoder"):
                d.add(side + ".relative.weight", (BUCKETS, c["heads"]), d.deviation(C, c["heads"]), True)
        for i in range(c["decoder_layers"]):
            d.block(f"decoder.blocks.{i}", c, cross=True)
    if c["head"] == "PATCHES":
        decoder = patch_decoder(c)
        d.norm("encoder.norm", C)
        d.linear("decoder.embedding", decoder["hidden"], C, bias=True)
        d.add("decoder.mask_token", (1, decoder["hidden"]), given)
        d.add("decoder.position.weight", (image_places(c), decoder["hidden"]), given)
        for i in range(decoder["layers"]):
            d.block(f"decoder.blocks.{i}", decoder)
        d.norm("head.norm", decoder["hidden"])
        d.linear("head.output", patch_values(c), decoder["hidden"], bias=True)
    elif c["head"] == "CLASSES":
        if family == "VIT":
            d.norm("head.norm", C)
        if family == "BERT":
            d.linear("head.pooler", C, C, bias=True)
        d.linear("head.output", c["classes"], C, bias=True)
    else:
        if family in ("MODERN_BERT", "T5"):
            d.norm("head.norm", C)
        if family in ("BERT", "MODERN_BERT"):
            d.linear("head.transform", C, C, d.recipe["biases"])
            d.norm("head.transform_norm", C)
            d.add("head.output.bias", (c["vocabulary"],), "zeros")
        if family == "T5" and "tied" not in c or family in RECURRENT:
            d.linear("head.output", c["vocabulary"], C, bias=False)
    return d


def patch_decoder(c):
    """The masked autoencoder's decoder is a ViT of its own width."""
    C, H = c["decoder_hidden"], c["decoder_heads"]
    return dict(c, layers=c["decoder_layers"], hidden=C, heads=H, head_dim=C // H, feed_forward=4 * C)


# ---- what they compute ----


def relative_buckets(queries, keys, both_ways):
    """[queries, keys]: of the distance of each key from each query; logarithms in float32, as T5 was trained."""
    distance = np.arange(keys)[None, :] - np.arange(queries)[:, None]
    buckets, first = BUCKETS, np.zeros_like(distance)
    if both_ways:
        buckets //= 2
        first = np.where(distance > 0, buckets, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = buckets // 2
    share = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(FARTHEST / exact))
    far = np.minimum(exact + (share * np.float32(buckets - exact)).astype(np.int64), buckets - 1)
    return torch.tensor(first + np.where(distance < exact, distance, far))


def sinusoids(tokens, columns):
    """[tokens, columns]: sines in the first half of the columns, cosines in the second."""
    angle = torch.arange(tokens, dtype=FLOAT)[:, None] / 10000**(2 * torch.arange(columns // 2, dtype=FLOAT) / columns)
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


def rotate(x, theta):
    """x [B, T, H, D]: pairs (i, i + D/2)."""
    T, D = x.shape[1], x.shape[3]
    angle = torch.arange(T, dtype=FLOAT)[:, None] * theta**(-2 * torch.arange(D // 2, dtype=FLOAT) / D)
    cos, sin = torch.cos(angle)[:, None, :], torch.sin(angle)[:, None, :]
    a, b = x[..., :D // 2], x[..., D // 2:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Network:
    """One pass over the samples from `first_sample` of the run on.

    dropout: probability; stochastic_depth: that a sample goes around a branch of the last block (Huang et al. 2016).
    """

    def __init__(self, c, weights, seed, first_sample=0, dropout=0.0, stochastic_depth=0.0):
        self.c, self.w, self.recipe = c, weights, RECIPES[c["family"]]
        self.seed, self.first_sample = seed, first_sample
        self.dropout, self.stochastic_depth = dropout, stochastic_depth

    # Rows are counted over the run.
    def drop_rows(self, x, site):
        if self.dropout == 0:
            return x
        B, T, C = x.shape
        rows = (self.first_sample + np.arange(B))[:, None, None] * T + np.arange(T)[None, :, None]
        return drop(x, self.seed, site, rows * C + np.arange(C), self.dropout)

    def drop_scores(self, x, site):
        if self.dropout == 0:
            return x
        B, H, queries, keys = x.shape
        rows = ((self.first_sample + np.arange(B))[:, None] * H + np.arange(H)) * queries
        elements = (rows[:, :, None, None] + np.arange(queries)[:, None]) * keys + np.arange(keys)
        return drop(x, self.seed, site, elements, self.dropout)

    def drop_samples(self, x, site, probability):
        samples = self.first_sample + np.arange(x.shape[0])[:, None, None]
        return drop(x, self.seed, site, samples, probability) if probability > 0 else x

    def linear(self, x, name):
        y = x @ self.w[name + ".weight"].T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def norm(self, x, name):
        if self.recipe["layer_norm"]:
            x = x - x.mean(-1, keepdim=True)
        y = x / torch.sqrt((x**2).mean(-1, keepdim=True) + f32(self.recipe["epsilon"])) * self.w[name + ".weight"]
        return y + self.w[name + ".bias"] if self.recipe["layer_norm"] else y

    def attention(self, h, name, c, memory=None, lengths=None, causal=False, relative=None):
        H, D = c["heads"], c["head_dim"]
        heads = lambda x: x.reshape(x.shape[0], x.shape[1], H, D)
        source = h if memory is None else memory
        q, k, v = (heads(self.linear(x, name + "." + part)) for x, part in ((h, "q"), (source, "k"), (source, "v")))
        if c["family"] == "MODERN_BERT":
            q, k = rotate(q, c["rope_theta"]), rotate(k, c["rope_theta"])
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k)
        if c["family"] != "T5":
            scores = scores / math.sqrt(D)
        queries, keys = scores.shape[2:]
        if relative is not None:
            buckets = relative_buckets(queries, keys, both_ways=not causal)
            scores = scores + self.w[relative][buckets].permute(2, 0, 1)
        if causal:
            scores = scores.masked_fill(torch.triu(torch.ones(queries, keys, dtype=torch.bool), 1), -math.inf)
        if lengths is not None:
            unseen = torch.arange(keys)[None, :] >= lengths[:, None]
            scores = scores.masked_fill(unseen[:, None, None, :], -math.inf)
        weights = self.drop_scores(torch.softmax(scores, dim=-1), name + ".weights")
        return self.linear(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2), name + ".output")

    def mlp(self, h, name):
        a = ACTIVATIONS.get(self.c.get("activation"), self.recipe["activation"])
        if name + ".gate.weight" in self.w:
            return self.linear(a(self.linear(h, name + ".gate")) * self.linear(h, name + ".up"), name + ".down")
        return self.linear(a(self.linear(h, name + ".up")), name + ".down")

    def residual(self, x, name, branch, around):
        kept = lambda y: self.drop_samples(self.drop_rows(y, name), name + ".around", around)
        if self.recipe["norms_behind"]:
            return self.norm(x + kept(branch(x)), name + "_norm")
        return x + kept(branch(self.norm(x, name + "_norm")))

    def block(self, x, name, c, memory=None, memory_lengths=None, around=0.0, **attention):
        at = name + ".attention"
        x = self.residual(x, at, lambda h: self.attention(h, at, c, **attention), around)
        if memory is not None:
            x = self.residual(x, name + ".cross", lambda h: self.attention(
                h, name + ".cross", c, memory=memory, lengths=memory_lengths), around)
        return self.residual(x, name + ".mlp", lambda h: self.mlp(h, name + ".mlp"), around)

    def embed(self, ids, site, segments=None):
        family, (B, T) = self.c["family"], ids.shape
        x = self.w["embedding.token.weight"][ids]
        if family == "TRANSFORMER":
            x = x * math.sqrt(self.c["hidden"]) + sinusoids(T, self.c["hidden"])
        if family == "BERT":
            segments = torch.zeros_like(ids) if segments is None else segments
            x = x + self.w["embedding.position.weight"][:T] + self.w["embedding.segment.weight"][segments]
            x = self.norm(x, "embedding.norm")
        return self.drop_rows(x, site)

    def embed_patches(self, batch):
        places = batch["patch_places"]
        x = self.linear(batch["patches"], "embedding.patch")  # with the bias, which the class token does not get
        x = torch.where((places == 0)[..., None], self.w["embedding.class_token"][0].expand_as(x), x)
        return self.drop_rows(x + self.w["embedding.position.weight"][places], "embedding")

    def recur(self, x, name, lengths, backward):
        """x [B, T, C] -> [B, T, units]; backward: from the last real token to the first."""
        B, T, _ = x.shape
        if backward:  # an involution, which leaves padding where it is
            t = torch.arange(T)[None, :].expand(B, T)
            order = torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
            x = x.gather(1, order[..., None].expand_as(x))
        gates = "h" if self.c["family"] == "RNN" else "ifgo"
        units = self.w[f"{name}.recurrent.{gates[0]}.weight"].shape[0]
        h, cell = torch.zeros(B, units, dtype=FLOAT), torch.zeros(B, units, dtype=FLOAT)
        outputs = []
        for t in range(T):
            a = {g: self.linear(x[:, t], f"{name}.input.{g}") + self.linear(h, f"{name}.recurrent.{g}") for g in gates}
            if self.c["family"] == "RNN":
                h = torch.tanh(a["h"])
            else:
                cell = torch.sigmoid(a["f"]) * cell + torch.sigmoid(a["i"]) * torch.tanh(a["g"])
                h = torch.sigmoid(a["o"]) * torch.tanh(cell)
            outputs.append(h)
        y = torch.stack(outputs, dim=1)
        return y.gather(1, order[..., None].expand_as(y)) if backward else y

    def recurrent_layers(self, x, lengths):
        for i in range(self.c["layers"]):
            y = [self.recur(x, f"layers.{i}.forward", lengths, False)]
            if self.c.get("bidirectional"):
                y.append(self.recur(x, f"layers.{i}.backward", lengths, True))
            x = self.drop_rows(torch.cat(y, dim=-1), f"layers.{i}")
        return x

    def decode(self, memory, batch):
        c, lengths = self.c, batch.get("lengths")
        t5 = c["family"] == "T5"
        memory = self.norm(memory, "encoder.norm") if t5 else memory
        y = self.embed(batch["decoder_inputs"], "decoder.embedding")
        for i in range(c["decoder_layers"]):
            y = self.block(y, f"decoder.blocks.{i}", c, memory=memory, memory_lengths=lengths, causal=True,
                           relative="decoder.relative.weight" if t5 else None)
        return y

    def decode_patches(self, x, batch):
        c = patch_decoder(self.c)
        x = self.linear(self.norm(x, "encoder.norm"), "decoder.embedding")
        B, _, C = x.shape
        y = self.w["decoder.mask_token"].expand(B, image_places(c), C)
        y = y.scatter(1, batch["patch_places"][..., None].expand_as(x), x) + self.w["decoder.position.weight"]
        for i in range(c["layers"]):
            y = self.block(y, f"decoder.blocks.{i}", c)
        return y

    def outputs(self, batch):
        """[B, U, K]: logits of tokens or classes, or values."""
        c, family = self.c, self.c["family"]
        lengths = batch.get("lengths")
        if family == "VIT":
            x = self.embed_patches(batch)
        else:
            x = self.embed(batch["inputs"], "embedding", batch.get("segments"))
        if family in RECURRENT:
            x = self.recurrent_layers(x, lengths)
        else:
            for i in range(c["layers"]):
                x = self.block(x, f"blocks.{i}", c, lengths=lengths,
                               around=self.stochastic_depth * i / (c["layers"] - 1),
                               relative="encoder.relative.weight" if family == "T5" else None)
        if family in PAIRS:
            x = self.decode(x, batch)
        if c["head"] == "PATCHES":
            x = self.decode_patches(x, batch)
        if "head.norm.weight" in self.w:
            x = self.norm(x, "head.norm")
        if c.get("pooling") == "MEAN":  # of all but the first
            t = torch.arange(x.shape[1])[None, :]
            real = ((t > 0) & (t < lengths[:, None]))[..., None]
            x = (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
        elif "places" in batch:
            x = x.gather(1, batch["places"][..., None].expand(*batch["places"].shape, x.shape[2]))
        if c["head"] == "TOKENS":
            return self.token_logits(x)
        if "head.pooler.weight" in self.w:
            x = torch.tanh(self.linear(x, "head.pooler"))
        return self.linear(self.drop_rows(x, "head") if c["head"] == "CLASSES" else x, "head.output")

    def token_logits(self, x):
        if "head.transform.weight" in self.w:
            x = self.norm(self.recipe["activation"](self.linear(x, "head.transform")), "head.transform_norm")
        tied = "head.output.weight" not in self.w
        if tied and self.c["family"] == "T5":
            x = x / math.sqrt(self.c["hidden"])
        logits = x @ self.w["embedding.token.weight" if tied else "head.output.weight"].T
        return logits + self.w["head.output.bias"] if "head.output.bias" in self.w else logits


def losses_of(outputs, batch, smoothing=0.0):
    """[B, U], without weights.

    smoothing: share of the probability that is spread over all other classes alike, as the code of Vaswani et al. 2017
    has it; Szegedy et al. 2016 spread a share of K / (K - 1) times as much over all K.
    """
    if "values" in batch:
        return ((outputs - batch["values"])**2).mean(-1)
    of_target = outputs.gather(-1, batch["targets"][..., None])[..., 0]
    share = smoothing * outputs.shape[-1] / (outputs.shape[-1] - 1)
    return torch.logsumexp(outputs, -1) - (1 - share) * of_target - share * outputs.mean(-1)
