#!/usr/bin/env python3
"""Makes what tests/data/tokens/json/json_tokenizer_test.cc holds data/tokens/ against: small tokenizers of every kind,
and the ids that the libraries they are of give for texts.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
    python3 tests/golden/make_tokenizers.py            # writes tests/golden/tokenizers.json

tokenizers.json:
    fragments   texts that the generated texts are put together of
    generated   how many generated texts there are, below
    tokenizers  [{name, json, config, shown, ids, decoded}]
                json: a tokenizer.json, as a text; config: of a tokenizer_config.json, as a text, or null
                shown: [text, ids, decoded text], in full
                ids, decoded: of each generated text FNV-1a (32 bits) over its ids, four little-endian bytes each, and
                over the bytes of the text that they are decoded to
    trained     the merges that the package's trainer learns of the generated texts, without those of pairs that occur
                once
    models      [{name, model, shown, ids, decoded}]: of SentencePiece; model: a .model file, in Base64

Generated text number k: x(0) = k + 1, x(i + 1) = x(i) * 6364136223846793005 + 1442695040888963407 modulo 2^64,
r(i) = x(i) >> 33; 1 + r(1) % 24 fragments, the j-th of them number r(1 + j) % len(fragments), j = 1, 2 ...
"""

import base64
import io
import json
import os

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GENERATED = 300

FRAGMENTS = """It was the best of times¦, it was¦ the¦ worst¦It¦'s¦ don't¦ WE'VE¦ I'll¦ naïve¦ café¦ Zoë¦Ångström¦ été¦größer
 Straße¦İstanbul¦ ΣΊΣΥΦΟΣ¦ ğüş¦ Привет¦ мир¦, как дела?¦ שלום¦ עולם¦ مرحبا¦ بالعالم¦ नमस्ते¦ दुनिया¦ สวัสดี
ชาวโลก¦ 你好¦世界¦東京¦は日本の¦首都です¦。¦、¦ 안녕하세요¦ 세계¦Việt Nam¦ Ελλάδα¦ ქართული¦ Հայերեն¦ አማርኛ¦ 1234567¦ 3.14159¦ 007¦²¦½¦ ①
Ⅷ¦ ٣٤٥¦ １２３¦ x86_64¦ 0xFF¦for (int i = 0; i < n; ++i) {¦    return a[i] * b->c;¦def f(x, *args):¦ != ¦ == ¦&&¦::
//¦ #include <vector>¦ "quoted"¦ (and)¦ [so]¦ {on}¦--¦---¦...¦!?¦;¦@#$%^&*¦`¦~¦\\¦👍🏽¦👨‍👩‍👧‍👦¦🇩🇪¦❤️¦1️⃣¦😀¦☕¦ 🏳️‍🌈
ﬁ¦ﷺ¦ſ¦ß¦™¦x¦y¦Z¦q¦supercalifragilistic¦aaaaaaaaaaaaaaaaaaaa¦<|endoftext|>¦<|x|>¦ <mask> ¦<mask>¦<s>¦</s>¦ </s>
[CLS]¦[SEP] ¦[MASK]¦<extra>¦word¦sword¦ word ¦▁¦▁▁¦##ing¦<0x41>¦Ġ¦Ċ¦,¦.¦ of¦ and¦ in¦to¦ a¦ that¦he¦her¦th¦in
ing¦er¦ ¦ ¦ ¦ ¦ ¦ ¦  ¦   ¦     ¦|""".replace("\n", "¦").split("¦")
FRAGMENTS += (
    "e\u0301 A\u030a o\u0302\u0323 \u1100\u1161\u11a8 \u2103 \u212b \u200b \u200d \ufeff \u00a0 \u3000 "
    "\u2028 \u0085 \u180e \u00ad \0 \u0001 \u001f \u007f \u009f \ufffd \ue000 \U00020000 \r\n \t \n\n \n "
    "\n \r \n\n\n \t\t \n\t \uff21\uff22 \u0130 \u01c4 \u0f0b \u061d \u1734 \u0378 \U00031350 \U00013d78 "
    "\U00010d70 \U0001e4f3 \U0001fadc"
).split(" ")

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"""
    r"""\s+(?!\S)|\s+"""
)


def generated():
    for k in range(GENERATED):
        x = k + 1
        r = []
        for _ in range(26):
            x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
            r.append(x >> 33)
        yield "".join(FRAGMENTS[r[1 + j] % len(FRAGMENTS)] for j in range(1 + r[0] % 24))


def corpus():
    """What the vocabularies are learnt from: other texts of the same fragments."""
    x, out = 12345, []
    for _ in range(3000):
        text = ""
        for _ in range(12):
            x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
            text += FRAGMENTS[(x >> 33) % len(FRAGMENTS)]
        out.append(text)
    return out


def fnv(data):
    h = 2166136261
    for byte in data:
        h = (h ^ byte) * 16777619 % 2**32
    return h


SHOWN = [
    "It was the best of times, it was the worst",
    " naïve  café\n\n東京 1234567 don't WE'VE",
    "👍🏽 e\u0301 Ångström\ufffd\0x",
    "<|endoftext|>a <mask> sword word</s>",
    "",
]


def measured(entry, encode, decode):
    def of(text):
        ids = encode(text)
        return ids, decode(ids)

    entry["shown"] = [[text, *of(text)] for text in SHOWN]
    results = [of(text) for text in generated()]
    entry["ids"] = [fnv(b"".join(i.to_bytes(4, "little") for i in ids)) for ids, _ in results]
    entry["decoded"] = [fnv(text.encode()) for _, text in results]
    return entry


def tokenizer_entry(name, tokenizer, config=None):
    text = tokenizer.to_str(pretty=False)
    tokenizer = Tokenizer.from_str(text)  # as a file gives it
    return measured(
        {"name": name, "json": text, "config": json.dumps(config) if config else None},
        lambda t: tokenizer.encode(t, add_special_tokens=False).ids,
        tokenizer.decode,
    )


def byte_level(pre_tokenizer, specials, normalizer=None, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=specials,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return tokenizer


def trained():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = split(LLAMA3)
    tokenizer.train_from_iterator(
        generated(),
        trainers.BpeTrainer(
            vocab_size=257 + 500,
            min_frequency=2,
            special_tokens=["<|endoftext|>"],
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    return [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def split(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def byte_level_kinds():
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    yield tokenizer_entry("gpt2", byte_level(plain, ["<|endoftext|>"]))
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain])
    yield tokenizer_entry("smollm", byte_level(digits, ["<|endoftext|>", "<|x|>"]))
    llama = byte_level(split(LLAMA3), [])
    # Tokens that merges do not make: whole words, for ignore_merges.
    model = json.loads(llama.to_str())
    for word in ["ĠPrivet", "Ġdon", "ĠStraÃŁe", "supercalifragilistic", "Ġ123"]:
        model["model"]["vocab"].setdefault(word, len(model["model"]["vocab"]))
    model["model"]["ignore_merges"] = True
    llama = Tokenizer.from_str(json.dumps(model))
    llama.add_special_tokens(["<s>", "</s>"])
    llama.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", llama.token_to_id("<s>"))]
            ),
        ]
    )
    yield tokenizer_entry("llama3", llama, {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}})
    yield tokenizer_entry(
        "qwen", byte_level(split(LLAMA3.replace("{1,3}", "")), ["<|endoftext|>", "<|x|>"], normalizers.NFC())
    )
    roberta = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), ["<s>", "</s>"])
    roberta.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<|x|>", rstrip=True)])
    roberta.add_tokens([AddedToken("word", single_word=True, normalized=False), AddedToken("東京", normalized=True)])
    roberta.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    yield tokenizer_entry("roberta", roberta)
    # Merges as texts, as files from before 2024 have them, and no type of the model.
    spaced = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=True)])
    old = json.loads(byte_level(spaced, ["<|endoftext|>"]).to_str())
    old["model"]["merges"] = [" ".join(pair) for pair in old["model"]["merges"]]
    del old["model"]["type"], old["model"]["ignore_merges"]
    entry = tokenizer_entry("old", Tokenizer.from_str(json.dumps(old)))
    entry["json"] = json.dumps(old, ensure_ascii=False, separators=(",", ":"))
    yield entry


def word_piece(normalizer, cleanup):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=16))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    tokenizer.train_from_iterator(
        corpus(),
        trainers.WordPieceTrainer(
            vocab_size=500,
            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            limit_alphabet=180,
            show_progress=False,
        ),
    )
    ids = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=list(ids.items())
    )
    return tokenizer


def cut_and_padded(entry):
    """What a file may say of the length of texts, which is left aside."""
    tokenizer = Tokenizer.from_str(entry["json"])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    entry["json"] = tokenizer.to_str(pretty=False)
    return entry


def sentence_pieces(**options):
    model = io.BytesIO()
    texts = [line for text in corpus() for line in text.replace("\0", "").split("\n") if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, minloglevel=2, hard_vocab_limit=False, **options
    )
    return model.getvalue()


def pieces_of(serialized):
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(serialized)
    return proto


def sentence_piece_bpe(serialized, metaspace):
    """As transformers converts Llama's."""
    pieces = [(p.piece, p.score) for p in pieces_of(serialized).pieces]
    vocab = {piece: i for i, (piece, _) in enumerate(pieces)}
    merges = []
    for piece, score in pieces:
        halves = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += [(a, b, score) for a, b in sorted(halves, key=lambda ab: (vocab[ab[0]], vocab[ab[1]]))]
    merges.sort(key=lambda m: -m[2])
    tokenizer = Tokenizer(
        models.BPE(vocab, [m[:2] for m in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    return tokenizer


RULES = "\n".join(
    f"{' '.join(f'{ord(c):04X}' for c in a)}\t{' '.join(f'{ord(c):04X}' for c in b)}"
    for a, b in [
        ("ﬁ", "fi"),
        ("①", "1"),
        ("\u00a0", " "),
        ("\u3000", " "),
        ("\t", " "),
        ("\n", " "),
        ("\r", " "),
        ("e\u0301", "é"),
        ("A\u030a", "Å"),
        ("ſ", "s"),
        ("™", "TM"),
        ("Ⅷ", "VIII"),
        ("\u200b", " "),
        ("\ufeff", ""),
        ("Ａ", "A"),
        ("Ｂ", "B"),
        ("½", "1/2"),
        ("ﷺ", "صلى الله"),
    ]
)


def unigrams():
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), "trefoil_rules.tsv")
    with open(path, "w") as rules:
        rules.write(RULES + "\n")
    for name, fallback in (("unigram", False), ("unigram_bytes", True)):
        proto = pieces_of(
            sentence_pieces(
                model_type="unigram",
                vocab_size=650 if fallback else 420,
                character_coverage=0.98,
                normalization_rule_tsv=path,
                byte_fallback=fallback,
                pad_id=0,
                eos_id=1,
                unk_id=2,
                bos_id=-1,
            )
        )
        tokenizer = Tokenizer(
            models.Unigram([(p.piece, p.score) for p in proto.pieces], unk_id=2, byte_fallback=fallback)
        )
        charsmap = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
        if fallback:
            tokenizer.normalizer = normalizers.Sequence(
                [charsmap, normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), "▁")]
            )
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
            tokenizer.decoder = decoders.Sequence(
                [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")]
            )
        else:
            tokenizer.normalizer = charsmap
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
            )
            tokenizer.decoder = decoders.Metaspace()
        tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", "<extra>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
        )
        yield tokenizer_entry(name, tokenizer)


def others():
    # GPT-1's and CLIP's: the end of a word is in its last token.
    ends = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    ends.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents(), normalizers.Strip()]
    )
    ends.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("merged_with_previous")]
    )
    ends.decoder = decoders.BPEDecoder()
    ends.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<unk>", "</s>"],
            end_of_word_suffix="</w>",
            limit_alphabet=120,
            show_progress=False,
        ),
    )
    yield tokenizer_entry("word_ends", ends)
    inside = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"))
    inside.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.Nmt(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    inside.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.CharDelimiterSplit(" "), pre_tokenizers.Digits(), pre_tokenizers.Split(",", "merged_with_next")]
    )
    inside.decoder = decoders.WordPiece()
    inside.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<unk>", "</s>"],
            continuing_subword_prefix="##",
            limit_alphabet=150,
            show_progress=False,
        ),
    )
    yield tokenizer_entry("word_insides", inside)
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.normalizer = normalizers.NFKD()
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True),
            pre_tokenizers.Split(Regex("[aeiou]"), "contiguous"),
        ]
    )
    words.train_from_iterator(
        corpus(), trainers.WordLevelTrainer(vocab_size=200, special_tokens=["<unk>", "</s>"], show_progress=False)
    )
    yield tokenizer_entry("words", words)


def main():
    llama = sentence_pieces(
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        character_coverage=0.98,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
    )
    tokenizers = [
        *byte_level_kinds(),
        cut_and_padded(tokenizer_entry("bert_uncased", word_piece(normalizers.BertNormalizer(), True))),
        tokenizer_entry("bert_cased", word_piece(normalizers.BertNormalizer(lowercase=False, clean_text=False), False)),
        tokenizer_entry("llama2", sentence_piece_bpe(llama, False)),
        tokenizer_entry("llama2_metaspace", sentence_piece_bpe(llama, True)),
        *unigrams(),
        *others(),
    ]
    models_ = []
    for name, serialized in (
        ("llama2", llama),
        ("unigram", sentence_pieces(model_type="unigram", vocab_size=420, character_coverage=0.98)),
    ):
        processor = sentencepiece.SentencePieceProcessor(model_proto=serialized)
        models_.append(
            measured({"name": name, "model": base64.b64encode(serialized).decode()}, processor.encode, processor.decode)
        )
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers.json")
    with open(path, "w") as out:
        out.write(
            '{"fragments":'
            + json.dumps(FRAGMENTS)
            + ',"generated":'
            + str(GENERATED)
            + ',"trained":'
            + json.dumps(trained())
            + ',"tokenizers":[\n'
        )
        out.write(",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in tokenizers))
        out.write(
            '\n],"models":[\n'
            + ",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in models_)
            + "\n]}\n"
        )


if __name__ == "__main__":
    main()
