#!/usr/bin/python3
"""Makes the golden numbers that tests/model/golden_families_test.cc holds the families behind GPT and LLAMA against.

    apt-get install python3-torch python3-numpy               # Debian 12: torch 1.13.1
    /usr/bin/python3 tests/golden/make_golden_families.py     # writes tests/golden/{bert,...}.safetensors
    python3 tests/golden/make_golden_families.py --check      # writes nothing; wants PyPI's transformers and torch

As make_golden.py, it shares no code with the program; the mathematics is in golden_networks.py, and --check holds it
against the models that others have (golden_check.py).

A fixture holds, besides the config in its metadata ("run" is a RunConfig in protobuf text format; "dropout" are the
fields that its model has more for the dropout_ tensors):
    the tensors that the task's batches have, named as in data/batch.h, of all samples of the run: [steps * B, ...],
                     i32, and f32 of patches, values and weights
    initial/NAME     f32 [n]                 every stride-th element of the initial weight, n <= 16
    logits           f32 [U, K]              what the network says of the first sample of step 1
    token_losses     f64 [B, U]              step 1, of each target, not weighted
    gradient/NAME    f32 [shape]             step 1: of the weighted mean loss per target of the global batch
    losses, norms    f64 [steps]             that loss and its gradient's norm (before clipping) of each step
    final/NAME       f32 [n]                 weights after all steps, sampled like initial/
    evaluation       f64 [1 or 2]            step 1's samples before any step: loss without smoothing, and accuracy
    dropout_losses   f64 [B, U], dropout_norm f64 [1], dropout_gradient/NAME f32 [n] sampled: step 1 with dropout
"""

import sys

import numpy as np
import torch

from golden_networks import Network, declare, losses_of
from golden_tools import (FLOAT, f32, initial_weight, norm_of, record_training, sampled, training_config,
                          write_fixture)

SEED = 4242
BATCH, STEPS = 4, 10
OPTIMIZER = dict(learning_rate=1e-2, final_share=0.1, beta1=0.9, beta2=0.95, epsilon=1e-6, weight_decay=0.1,
                 warmup_steps=4)
SMALL = dict(layers=2, hidden=32, heads=4, head_dim=8, feed_forward=64, vocabulary=61)

# model: fields of model.proto that its config says, and filled: those that follow from them and the task; clip: the
# norm to clip to, which some steps must have and some not; dropout: fields of the model besides, for dropout_ tensors.
MODELS = {
    "bert": dict(
        model=dict(SMALL, family="BERT", sequence_length=12, initial_deviation=0.08),
        filled=dict(head="TOKENS", targets=3), task=dict(kind="MASKED_TOKEN", mask_rate=0.3), clip=2.5),
    "modern_bert": dict(
        model=dict(SMALL, family="MODERN_BERT", feed_forward=48, sequence_length=12, initial_deviation=0.08),
        filled=dict(head="TOKENS", targets=3, rope_theta=10000), task=dict(kind="MASKED_TOKEN", mask_rate=0.3), clip=3),
    "bert_classes": dict(
        model=dict(SMALL, family="BERT", sequence_length=11, initial_deviation=0.08, classes=5),
        filled=dict(head="CLASSES", targets=1), task=dict(kind="TEXT_CLASSES"), clip=2, dropout=dict(dropout=0.125)),
    "transformer": dict(
        model=dict(SMALL, family="TRANSFORMER", decoder_layers=3, sequence_length=10, decoder_length=8),
        filled=dict(head="TOKENS", targets=8), task=dict(kind="TRANSLATION", label_smoothing=0.1), clip=2,
        dropout=dict(dropout=0.125)),
    # Longer, for the buckets that distances share; heads whose columns are not as many as the width; room for as many
    # symbols as T5 has.
    "t5": dict(
        model=dict(SMALL, family="T5", hidden=16, heads=2, head_dim=6, feed_forward=40, vocabulary=131,
                   sequence_length=40, decoder_length=21),
        filled=dict(head="TOKENS", targets=21, decoder_layers=2), task=dict(kind="SPAN_CORRUPTION", mask_rate=0.3),
        clip=1.3),
    # T5 1.0.
    "t5_tied": dict(
        model=dict(SMALL, family="T5", hidden=16, heads=2, head_dim=6, feed_forward=24, vocabulary=131,
                   sequence_length=40, decoder_length=21, tied="true", activation="RELU", gated="false"),
        filled=dict(head="TOKENS", targets=21, decoder_layers=2), task=dict(kind="SPAN_CORRUPTION", mask_rate=0.3),
        clip=1.3),
    "vit": dict(
        model=dict(SMALL, family="VIT", vocabulary=None, image_size=12, patch_size=4, channels=3, classes=7,
                   initial_deviation=0.08),
        filled=dict(head="CLASSES", targets=1, sequence_length=10), task=dict(kind="IMAGE_CLASSES"), clip=4,
        dropout=dict(dropout=0.125, stochastic_depth=0.5)),
    "mae": dict(
        model=dict(SMALL, family="VIT", vocabulary=None, image_size=8, patch_size=2, channels=1, initial_deviation=0.08,
                   decoder_layers=2, decoder_hidden=24, decoder_heads=2),
        filled=dict(head="PATCHES", targets=12, sequence_length=5, decoder_length=17), task=dict(kind="PATCHES"),
        clip=0.8),
    "rnn": dict(
        model=dict(family="RNN", layers=2, hidden=32, vocabulary=61, sequence_length=12),
        filled=dict(head="TOKENS", targets=12), task=dict(kind="NEXT_TOKEN"), clip=1.35),
    "lstm": dict(
        model=dict(family="LSTM", layers=2, hidden=32, vocabulary=61, sequence_length=12),
        filled=dict(head="TOKENS", targets=12), task=dict(kind="NEXT_TOKEN"), clip=0.51, dropout=dict(dropout=0.125)),
    "lstm_classes": dict(
        model=dict(family="LSTM", layers=2, hidden=32, vocabulary=61, sequence_length=11, bidirectional="true",
                   classes=5, pooling="MEAN"),
        filled=dict(head="CLASSES", targets=1), task=dict(kind="TEXT_CLASSES"), clip=0.85),
}

# ---- samples: something to learn, and every id occurs somewhere ----


def chains(random, vocabulary, length):
    """[samples, length]: mostly one fixed successor of each token, of few tokens."""
    tokens = random.integers(0, vocabulary, size=(STEPS * BATCH, length))
    for t in range(1, length):
        follow = random.random(STEPS * BATCH) < 0.8
        tokens[:, t] = np.where(follow, (tokens[:, t - 1] * 5 + 3) % 7 * 8, tokens[:, t])
    return tokens


def next_token(c, random):
    tokens = chains(random, c["vocabulary"], c["sequence_length"] + 1)
    return dict(inputs=tokens[:, :-1], targets=tokens[:, 1:])


def masked_token(c, random):
    """The last id stands for what is hidden; of what is asked for some are another token, and some are there."""
    tokens = chains(random, c["vocabulary"] - 1, c["sequence_length"])
    order = random.permuted(np.tile(np.arange(1, c["sequence_length"] - 1), (STEPS * BATCH, 1)), axis=1)
    places = np.sort(order[:, :c["targets"]], axis=1)
    inputs, targets = tokens.copy(), np.take_along_axis(tokens, places, axis=1)
    fate = random.random(places.shape)
    other = random.integers(0, c["vocabulary"] - 1, size=places.shape)
    shown = np.where(fate < 0.8, c["vocabulary"] - 1, np.where(fate < 0.9, other, targets))
    np.put_along_axis(inputs, places, shown, axis=1)
    return dict(inputs=inputs, targets=targets, places=places)


def translation(c, random):
    """Each token has one translation, of few; what pads is any token."""
    T, D, V = c["sequence_length"], c["decoder_length"], c["vocabulary"]
    begin, end = V - 1, V - 2
    inputs = chains(random, V - 2, T)
    lengths = random.integers(3, T + 1, size=STEPS * BATCH)
    lengths[:2] = T, 3
    decoder_inputs = random.integers(0, V, size=(STEPS * BATCH, D))
    targets = random.integers(0, V, size=(STEPS * BATCH, D))
    weights = np.zeros((STEPS * BATCH, D), dtype=np.float32)
    for i, length in enumerate(lengths):
        text = [(token // 8 * 5 + 1) % V for token in inputs[i, :min(length, D - 1)]]
        targets[i, :len(text) + 1] = text + [end]
        decoder_inputs[i, :len(text) + 1] = [begin] + text
        weights[i, :len(text) + 1] = 1
    return dict(inputs=inputs, lengths=lengths, decoder_inputs=decoder_inputs, targets=targets, weights=weights)


def span_corruption(c, random):
    """Of texts of 49 tokens 15 in 5 spans are lost, for which the last ids stand (Raffel et al. 2020, 3.1.4)."""
    V, spans, lost, text = c["vocabulary"], 5, 15, 49
    tokens = chains(random, V - 6, text)
    first, end = V - 5, V - 6

    def parts(n):  # of at least one each
        cuts = np.sort(random.choice(np.arange(1, n), size=spans - 1, replace=False))
        return np.diff(np.concatenate([[0], cuts, [n]]))

    inputs, targets = [], []
    for row in tokens:
        at, seen, hidden = 0, [], []
        for i, (kept, gone) in enumerate(zip(parts(text - lost), parts(lost))):
            seen += list(row[at:at + kept]) + [first + i]
            hidden += [first + i] + list(row[at + kept:at + kept + gone])
            at += kept + gone
        inputs.append(seen + [end])
        targets.append(hidden + [end])
    inputs, targets = np.array(inputs), np.array(targets)
    decoder_inputs = np.concatenate([np.full_like(targets[:, :1], end), targets[:, :-1]], axis=1)
    return dict(inputs=inputs, decoder_inputs=decoder_inputs, targets=targets)


def text_classes(c, random):
    """Pairs of texts: a class has tokens of its own."""
    T, V, n = c["sequence_length"], c["vocabulary"], STEPS * BATCH
    lengths = random.integers(4, T + 1, size=n)
    lengths[:2] = T, 4
    second = random.integers(1, lengths)[:, None]  # where the second text begins
    t = np.arange(T)[None, :]
    targets = random.integers(0, c["classes"], size=(n, 1))
    own = random.random((n, T)) < 0.5
    inputs = np.where(own, targets * 11 + 3, random.integers(0, V, size=(n, T)))
    segments = ((t >= second) & (t < lengths[:, None])).astype(int)
    return dict(inputs=inputs, lengths=lengths, segments=segments, targets=targets, places=np.zeros_like(targets))


def images(c, random, kinds):
    """[samples, channels, side, side] of smooth stripes, by kind, with noise."""
    side = np.arange(c["image_size"])
    wave = kinds[:, None, None] * side[None, :, None] + (kinds[:, None, None] + 2) * side[None, None, :]
    pure = np.sin(0.3 * wave[:, None] + np.arange(c["channels"])[None, :, None, None])
    return pure + 0.3 * random.standard_normal((kinds.size, c["channels"], side.size, side.size))


def cut(c, pictures):
    """[samples, 1 + patches, P]: zeros for the class token; a patch is channel by channel, row by row."""
    n, p, across = len(pictures), c["patch_size"], c["image_size"] // c["patch_size"]
    grid = pictures.reshape(n, c["channels"], across, p, across, p).transpose(0, 2, 4, 1, 3, 5)
    patches = grid.reshape(n, across * across, -1)
    return np.concatenate([np.zeros_like(patches[:, :1]), patches], axis=1).astype(np.float32)


def image_classes(c, random):
    targets = random.integers(0, c["classes"], size=(STEPS * BATCH, 1))
    patches = cut(c, images(c, random, targets[:, 0]))
    places = np.tile(np.arange(patches.shape[1]), (STEPS * BATCH, 1))
    return dict(patches=patches, patch_places=places, targets=targets, places=np.zeros_like(targets))


def masked_patches(c, random):
    """Those that are seen are in any order behind the class token."""
    patches = cut(c, images(c, random, random.integers(0, 5, size=STEPS * BATCH)))
    order = random.permuted(np.tile(np.arange(1, patches.shape[1]), (STEPS * BATCH, 1)), axis=1)
    seen = np.concatenate([np.zeros_like(order[:, :1]), order[:, :c["sequence_length"] - 1]], axis=1)
    hidden = order[:, c["sequence_length"] - 1:]
    of = lambda places: np.take_along_axis(patches, places[..., None], axis=1)
    return dict(patches=of(seen), patch_places=seen, values=of(hidden), places=hidden)


TASKS = {"NEXT_TOKEN": next_token, "MASKED_TOKEN": masked_token, "TRANSLATION": translation,
         "SPAN_CORRUPTION": span_corruption, "TEXT_CLASSES": text_classes, "IMAGE_CLASSES": image_classes,
         "PATCHES": masked_patches}


def samples_of(name, c):
    samples = TASKS[MODELS[name]["task"]["kind"]](c, np.random.default_rng(7))
    return {n: x if x.dtype == np.float32 else x.astype(np.int32) for n, x in samples.items()}


# ---- fixtures ----


def config_of(name):
    m = MODELS[name]
    return {k: v for k, v in dict(m["model"], **m["filled"]).items() if v is not None}


def weights_of(c):
    declared = declare(c)
    weights = {n: torch.tensor(initial_weight(SEED, n, *p), dtype=FLOAT, requires_grad=True)
               for n, p in declared.parameters.items()}
    return weights, declared.decays


def batch_of(samples, step):
    """For golden_networks: ids int64, numbers float64."""
    rows = {n: torch.tensor(x[(step - 1) * BATCH:step * BATCH]) for n, x in samples.items()}
    return {n: x.to(FLOAT if x.is_floating_point() else torch.int64) for n, x in rows.items()}


def fields(values):
    return [f"  {k}: {v}" for k, v in values.items() if v is not None]


def run_config(name):
    m = MODELS[name]
    lines = ["model {"] + fields(m["model"]) + ["}", "task {"] + fields(m["task"]) + ["}"]
    return "\n".join(lines + training_config(STEPS, BATCH, SEED, dict(OPTIMIZER, clip_norm=m["clip"])))


def evaluation(outputs, batch):
    each = losses_of(outputs, batch)
    weights = batch.get("weights", torch.ones_like(each))
    loss = float((weights * each).sum() / weights.sum())
    if "values" in batch:
        return np.array([loss])
    found = (outputs.argmax(-1) == batch["targets"]) & (weights > 0)
    return np.array([loss, int(found.sum()) / int((weights > 0).sum())])


def make(name):
    m, c = MODELS[name], config_of(name)
    w, decays = weights_of(c)
    samples = samples_of(name, c)
    out = dict(samples)
    out.update({"initial/" + n: sampled(x.detach().numpy()) for n, x in w.items()})
    smoothing = f32(m["task"].get("label_smoothing", 0))

    def gradients_of(step, **dropout):
        batch = batch_of(samples, step)
        outputs = Network(c, w, SEED, (step - 1) * BATCH, **dropout).outputs(batch)
        each = losses_of(outputs, batch, smoothing)
        weights = batch.get("weights", torch.ones_like(each))
        loss = (weights * each).sum() / weights.sum()
        gradients = dict(zip(w, torch.autograd.grad(loss, list(w.values()))))
        return outputs[0].detach().numpy(), each.detach().numpy(), loss.item(), gradients

    metadata = {"run": run_config(name)}
    if "dropout" in m:
        metadata["dropout"] = " ".join(fields(m["dropout"]))
        _, each, _, gradients = gradients_of(1, **m["dropout"])
        out["dropout_losses"] = each
        out["dropout_norm"] = np.array([norm_of(gradients)])
        out.update({"dropout_gradient/" + n: sampled(g.numpy()) for n, g in gradients.items()})

    out["evaluation"] = evaluation(Network(c, w, SEED).outputs(batch_of(samples, 1)).detach(), batch_of(samples, 1))
    print(name)
    record_training(out, w, dict(OPTIMIZER, clip_norm=m["clip"]), STEPS, decays, gradients_of)
    write_fixture(name, out, metadata)


if "--check" in sys.argv:
    from golden_check import check_with_transformers
    check_with_transformers({n: (config_of(n), weights_of(config_of(n))[0], batch_of(samples_of(n, config_of(n)), 1))
                             for n in MODELS})
else:
    for model in sys.argv[1:] or MODELS:
        make(model)
