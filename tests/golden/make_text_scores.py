#!/usr/bin/env python3
"""Makes the golden numbers that tests/data/text/text_scores_test.cc holds data/text/text_scores.h against.

    pip install sacrebleu==2.6.0
    python3 tests/golden/make_text_scores.py            # writes tests/golden/text_scores.json

text_scores.json:
    signatures  of sacreBLEU's BLEU and chrF, both with its defaults
    pairs       [hypothesis, reference, BLEU, chrF]: the scores of a corpus of this one pair
    tokens      [text, its tokens with a space between]: the 13a tokenizer
    corpora     {first, last, bleu, precisions, brevity_penalty, chrf}: of pairs [first, last)
"""

import json
import os
import random

from sacrebleu.metrics import BLEU, CHRF

SENTENCES = [
    "The committee will meet at 10.30 on Monday, in room 4-B.",
    "It's 3.5%, isn't it?",
    'He said: "We paid $1,234,567.89 for it" -- and left.',
    "To open the file, choose File - Open (or press Ctrl+O).",
    "See https://example.org/a/b?c=1&d=2#e, or write to x.y@example.org.",
    "In the years 1998-2003 the U.S.A. had 5-6% growth...",
    "The quick brown fox jumps over the lazy dog.",
    "the the the the the the the",
    "A matrix [a_ij] with |a| < 1, {b} > 2 and c^2 ~ d.",
    "Markup such as &quot;this&quot; &amp; &lt;that&gt; &amp;lt;both&amp;gt; <skipped>is decoded.",
    "Ein Satz über Größe, Maß & Übermut: „Schön!“, sagte er – und ging.",
    "Pour ouvrir le fichier, sélectionnez « Ouvrir » ; n’oubliez pas l’accent, 1 234,5 fois.",
    "¿Dónde está el niño? ¡Allí, en el año 2.000!",
    "Мы встретимся в 10:30, не опаздывайте.",
    "私は3.5リットルの水を飲みました。本当に、そうです。",
    "他买了１２３本书，花了45.6元。",
    "Emoji 👍🏽 and 👨‍👩‍👧 count, as does naïve vs naïve.",
    "Tabs\tand\u00a0odd\u2003spaces\u3000all\u2028over .",
    "A line-\nbroken sentence\nover three lines.",
    "1,2,3,.4.,5..6,,7 .8. 9-10--11 -12",
    "a.b.c,d e. ,f ., g,. h.,",
    "x",
    "Yes.",
    "No, no.",
    "Ναι, βέβαια: 2,5 φορές.",
    "هذا نص عربي، مع أرقام 1.5.",
    "word" * 20,
    "'single' ''double'' `back` can't won't o'clock",
]
WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})


def worse(sentence, rng):
    """The sentence with some words dropped, changed, moved or doubled, and some characters changed."""
    words = sentence.split(" ")
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        if not words:
            break
        at = rng.randrange(len(words))
        kind = rng.randrange(5)
        if kind == 0:
            del words[at]
        elif kind == 1:
            words[at] = rng.choice(WORDS)
        elif kind == 2:
            words.insert(rng.randrange(len(words)), words.pop(at))
        elif kind == 3:
            words.insert(at, words[at])
        elif words[at]:
            place = rng.randrange(len(words[at]))
            words[at] = words[at][:place] + rng.choice("ae.,-1é漢'") + words[at][place + 1:]
    return " ".join(words)


def make_pairs():
    rng = random.Random(1)
    pairs = []
    for number in range(400):
        reference = rng.choice(SENTENCES)
        if rng.random() < 0.3:
            reference += " " + rng.choice(SENTENCES)
        hypothesis = worse(reference, rng)
        if number % 40 == 7:
            hypothesis = ""
        if number % 40 == 17:
            hypothesis = rng.choice(SENTENCES)
        if number % 100 == 27:
            reference = ""
        if number % 40 == 37:
            hypothesis += rng.choice([" ", "\n", "\u00a0 ", "-\n"])
        pairs.append((hypothesis, reference))
    return pairs


def main():
    bleu, chrf = BLEU(), CHRF()
    pairs = make_pairs()
    scored = [[h, r, bleu.corpus_score([h], [[r]]).score, chrf.corpus_score([h], [[r]]).score] for h, r in pairs]
    corpora = []
    for first, last in [(0, 400), (0, 10), (100, 103), (27, 28), (7, 8), (350, 400)]:
        hypotheses, references = [h for h, _ in pairs[first:last]], [r for _, r in pairs[first:last]]
        score = bleu.corpus_score(hypotheses, [references])
        corpora.append({
            "first": first, "last": last, "bleu": score.score, "precisions": score.precisions,
            "brevity_penalty": score.bp, "chrf": chrf.corpus_score(hypotheses, [references]).score,
        })
    golden = {
        "signatures": [str(bleu.get_signature()), str(chrf.get_signature())],
        "pairs": scored,
        "tokens": [[text, bleu.tokenizer(text.rstrip())] for text in SENTENCES],
        "corpora": corpora,
    }
    with open(os.path.join(os.path.dirname(__file__), "text_scores.json"), "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False, indent=0)
        file.write("\n")
    print(golden["signatures"], [corpus["bleu"] for corpus in corpora], [corpus["chrf"] for corpus in corpora])


if __name__ == "__main__":
    main()
