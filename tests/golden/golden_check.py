"""A second opinion on golden_networks.py: the same weights in the models of `transformers` and of torch.nn."""

import numpy as np
import torch
import transformers

from golden_networks import Network, losses_of, patch_decoder
from golden_tools import FLOAT

# Our names to theirs: of these, in order, each that occurs in a name is replaced.
BERT = [("embedding.token", "bert.embeddings.word_embeddings"), ("embedding.norm", "bert.embeddings.LayerNorm"),
        ("embedding.position", "bert.embeddings.position_embeddings"),
        ("embedding.segment", "bert.embeddings.token_type_embeddings"), ("blocks.", "bert.encoder.layer."),
        ("attention.q", "attention.self.query"), ("attention.k", "attention.self.key"),
        ("attention.v", "attention.self.value"), ("attention.output", "attention.output.dense"),
        ("attention_norm", "attention.output.LayerNorm"), ("mlp.up", "intermediate.dense"),
        ("mlp.down", "output.dense"), ("mlp_norm", "output.LayerNorm"),
        ("head.transform_norm", "head.transform.LayerNorm"), ("head.transform.weight", "head.transform.dense.weight"),
        ("head.transform.bias", "head.transform.dense.bias"),
        ("head.transform", "cls.predictions.transform"), ("head.pooler", "bert.pooler.dense")]
T5 = [("embedding.token", "shared"), ("encoder.norm", "encoder.final_layer_norm"),
      ("head.norm", "decoder.final_layer_norm"), ("head.output", "lm_head"),
      ("coder.relative", "coder.block.0.layer.0.SelfAttention.relative_attention_bias"),
      ("decoder.blocks.", "decoder.block."), ("blocks.", "encoder.block."), (".output.", ".o."),
      ("attention_norm", "layer.0.layer_norm"), ("attention.", "layer.0.SelfAttention."),
      ("cross_norm", "layer.1.layer_norm"), ("cross.", "layer.1.EncDecAttention."),
      ("mlp_norm", "layer.MLP.layer_norm"), ("mlp.gate", "layer.MLP.DenseReluDense.wi_0"),
      ("mlp.up", "layer.MLP.DenseReluDense.wi_1"), ("mlp.down", "layer.MLP.DenseReluDense.wo")]
MARIAN = [("embedding.token", "model.shared"), ("decoder.blocks.", "model.decoder.layers."),
          ("blocks.", "model.encoder.layers."), ("attention_norm", "self_attn_layer_norm"),
          ("attention.", "self_attn."), ("cross_norm", "encoder_attn_layer_norm"), ("cross.", "encoder_attn."),
          ("mlp_norm", "final_layer_norm"), ("mlp.up", "fc1"), ("mlp.down", "fc2"), (".q.", ".q_proj."),
          (".k.", ".k_proj."), (".v.", ".v_proj."), (".output.", ".out_proj.")]
VIT = [("embedding.class_token", "vit.embeddings.cls_token"),
       ("decoder.position.weight", "decoder.decoder_pos_embed"), ("decoder.embedding", "decoder.decoder_embed"),
       ("embedding.position.weight", "vit.embeddings.position_embeddings"),
       ("embedding.patch", "vit.embeddings.patch_embeddings.projection"), ("encoder.norm", "vit.layernorm"),
       ("decoder.blocks.", "decoder.decoder_layers."), ("blocks.", "vit.layers."),
       ("attention_norm", "layernorm_before"), ("mlp_norm", "layernorm_after"), ("mlp.up", "mlp.fc1"),
       ("mlp.down", "mlp.fc2"), (".q.", ".q_proj."), (".k.", ".k_proj."), (".v.", ".v_proj."),
       ("attention.output", "attention.o_proj")]


def renamed(name, pairs):
    for ours, theirs in pairs:
        name = name.replace(ours, theirs)
    return name


def load(model, weights):
    """Every weight has its place; what is left without is tied to one, or is what a family of ours does not have."""
    model = model.to(FLOAT).eval()
    shapes = {n: x.shape for n, x in model.state_dict().items()}
    state = {n: x.detach().reshape(shapes[n]) for n, x in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    left = [n for n in missing if not n.endswith(("embed_tokens.weight", "embed_positions.weight", "lm_head.weight",
                                                  "predictions.decoder.weight", "predictions.decoder.bias"))]
    assert left in ([], ["final_logits_bias"]), left
    model.tie_weights()
    return model


def at_places(logits, batch):
    return logits.gather(1, batch["places"][..., None].expand(*batch["places"].shape, logits.shape[2]))


def bert(c, w, batch):
    config = transformers.BertConfig(
        vocab_size=c["vocabulary"], hidden_size=c["hidden"], num_hidden_layers=c["layers"],
        num_attention_heads=c["heads"], intermediate_size=c["feed_forward"], num_labels=c.get("classes", 2),
        max_position_embeddings=c["sequence_length"], hidden_act="gelu", layer_norm_eps=1e-12)
    if c["head"] == "TOKENS":
        pairs = BERT + [("head.output", "cls.predictions")]
        model = load(transformers.BertForMaskedLM(config), {renamed(n, pairs): x for n, x in w.items()})
        return at_places(model(input_ids=batch["inputs"]).logits, batch)
    pairs = BERT + [("head.output", "classifier")]
    model = load(transformers.BertForSequenceClassification(config), {renamed(n, pairs): x for n, x in w.items()})
    seen = (torch.arange(c["sequence_length"])[None, :] < batch["lengths"][:, None]).long()
    logits = model(input_ids=batch["inputs"], attention_mask=seen, token_type_ids=batch["segments"]).logits
    return logits[:, None, :]


def transformer(c, w, batch):
    config = transformers.MarianConfig(
        vocab_size=c["vocabulary"], d_model=c["hidden"], encoder_layers=c["layers"],
        decoder_layers=c["decoder_layers"], encoder_attention_heads=c["heads"], decoder_attention_heads=c["heads"],
        encoder_ffn_dim=c["feed_forward"], decoder_ffn_dim=c["feed_forward"], activation_function="relu",
        scale_embedding=True, max_position_embeddings=c["sequence_length"], pad_token_id=0, decoder_start_token_id=0)
    model = load(transformers.MarianMTModel(config), {renamed(n, MARIAN): x for n, x in w.items()})
    seen = (torch.arange(c["sequence_length"])[None, :] < batch["lengths"][:, None]).long()
    return model(input_ids=batch["inputs"], attention_mask=seen, decoder_input_ids=batch["decoder_inputs"]).logits


def t5(c, w, batch):
    config = transformers.T5Config(
        vocab_size=c["vocabulary"], d_model=c["hidden"], d_kv=c["head_dim"], d_ff=c["feed_forward"],
        num_layers=c["layers"], num_decoder_layers=c["decoder_layers"], num_heads=c["heads"],
        feed_forward_proj="relu" if "tied" in c else "gated-gelu", tie_word_embeddings="tied" in c,
        layer_norm_epsilon=1e-6)
    config.tie_word_embeddings = "tied" in c  # which the class sets
    config.scale_decoder_outputs = "tied" in c
    pairs = [("mlp.up", "layer.MLP.DenseReluDense.wi"), *T5] if "tied" in c else T5
    name = lambda n: renamed(n, pairs).replace("MLP", "2" if n.startswith("decoder") else "1")
    weights = {name(n): x for n, x in w.items()}
    for side in ("encoder", "decoder"):
        weights[side + ".embed_tokens.weight"] = w["embedding.token.weight"]
    model = load(transformers.T5ForConditionalGeneration(config), weights)
    return model(input_ids=batch["inputs"], decoder_input_ids=batch["decoder_inputs"]).logits


def picture_of(c, patches, places):
    """[B, channels, side, side], from patches of their places, from 1."""
    B, across, p = len(patches), c["image_size"] // c["patch_size"], c["patch_size"]
    order = places.argsort(1)
    grid = patches.gather(1, order[..., None].expand_as(patches)).reshape(B, across, across, c["channels"], p, p)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(B, c["channels"], c["image_size"], c["image_size"])


def vit_sizes(c):
    return dict(hidden_size=c["hidden"], num_hidden_layers=c["layers"], num_attention_heads=c["heads"],
                intermediate_size=c["feed_forward"], image_size=c["image_size"], patch_size=c["patch_size"],
                num_channels=c["channels"], hidden_act="gelu", layer_norm_eps=1e-12)


def vit(c, w, batch):
    config = transformers.ViTConfig(num_labels=c["classes"], **vit_sizes(c))
    pairs = VIT + [("head.norm", "vit.layernorm"), ("head.output", "classifier")]
    model = load(transformers.ViTForImageClassification(config), {renamed(n, pairs): x for n, x in w.items()})
    picture = picture_of(c, batch["patches"][:, 1:], batch["patch_places"][:, 1:])
    return model(pixel_values=picture).logits[:, None, :]


def mae(c, w, batch):
    d = patch_decoder(c)
    config = transformers.ViTMAEConfig(
        decoder_hidden_size=d["hidden"], decoder_num_attention_heads=d["heads"], decoder_num_hidden_layers=d["layers"],
        decoder_intermediate_size=d["feed_forward"], norm_pix_loss=False,
        mask_ratio=c["targets"] / (c["targets"] + c["sequence_length"] - 1), **vit_sizes(c))
    pairs = VIT + [("head.norm", "decoder.decoder_norm"), ("head.output", "decoder.decoder_pred")]
    model = load(transformers.ViTMAEForPreTraining(config), {renamed(n, pairs): x for n, x in w.items()})
    places = torch.cat([batch["patch_places"][:, 1:], batch["places"]], dim=1)
    picture = picture_of(c, torch.cat([batch["patches"][:, 1:], batch["values"]], dim=1), places)
    noise = torch.empty(places.shape, dtype=FLOAT).scatter(  # the patches with the least are seen, in that order
        1, places - 1, torch.arange(places.shape[1], dtype=FLOAT).expand_as(places))
    logits = model(pixel_values=picture, noise=noise).logits
    assert c["channels"] == 1  # theirs has a pixel's channels side by side
    return logits.gather(1, (batch["places"] - 1)[..., None].expand(*batch["places"].shape, logits.shape[2]))


def recurrent(c, w, batch):
    both, family = bool(c.get("bidirectional")), c["family"]
    units = c["hidden"] // (2 if both else 1)
    model = getattr(torch.nn, family)(c["hidden"], units, c["layers"], batch_first=True, bidirectional=both).to(FLOAT)
    state, gates = {}, "h" if family == "RNN" else "ifgo"
    for layer in range(c["layers"]):
        for direction, suffix in (("forward", ""), ("backward", "_reverse"))[:2 if both else 1]:
            prefix = f"layers.{layer}.{direction}."
            of_gates = lambda kind, of: torch.cat([w[f"{prefix}{kind}.{g}.{of}"] for g in gates]).detach()
            state[f"weight_ih_l{layer}{suffix}"] = of_gates("input", "weight")
            state[f"weight_hh_l{layer}{suffix}"] = of_gates("recurrent", "weight")
            state[f"bias_ih_l{layer}{suffix}"] = of_gates("input", "bias")
            state[f"bias_hh_l{layer}{suffix}"] = torch.zeros(len(gates) * units, dtype=FLOAT)
    model.load_state_dict(state)
    x = w["embedding.token.weight"][batch["inputs"]]
    if c["head"] == "TOKENS":
        return model(x)[0] @ w["head.output.weight"].T
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, batch["lengths"], batch_first=True, enforce_sorted=False)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(model(packed)[0], batch_first=True)
    means = torch.stack([row[1:n].mean(0) for row, n in zip(y, batch["lengths"])])
    return (means @ w["head.output.weight"].T + w["head.output.bias"])[:, None, :]


# None has RMSNorm, rotary positions and GEGLU in an encoder: modern_bert is left out.
MODELS = {"bert": bert, "bert_classes": bert, "transformer": transformer, "t5": t5, "t5_tied": t5, "vit": vit, "mae": mae,
          "rnn": recurrent, "lstm": recurrent, "lstm_classes": recurrent}


def check_with_transformers(models):
    """models: name -> (config, weights, the batch of step 1). Prints differences, and asserts that they are small."""
    transformers.logging.set_verbosity_error()
    for name, theirs in MODELS.items():
        c, w, batch = models[name]
        with torch.no_grad():
            ours, other = Network(c, w, seed=0).outputs(batch), theirs(c, w, batch)
        logits = float((ours - other).abs().max())
        losses = float((losses_of(ours, batch) - losses_of(other, batch)).abs().max())
        print(f"{name:14} {theirs.__name__:12} logits of {float(ours.abs().max()):6.3f} differ by {logits:.1e}, "
              f"losses by {losses:.1e}")
        assert ours.shape == other.shape and max(logits, losses) < 1e-5
    logits = torch.tensor(np.random.default_rng(1).standard_normal((5, 3, 61)))
    targets = torch.arange(15).reshape(5, 3)
    # Theirs is the share of all classes, ours that of the others.
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1 * 61 / 60)
    ours = losses_of(logits, {"targets": targets}, smoothing=0.1).mean()
    print(f"cross-entropy with label smoothing differs by {abs(float(ours - theirs)):.1e}")
    assert abs(float(ours - theirs)) < 1e-5
