#!/usr/bin/env python3
"""Makes small tasks of every kind, and what EleutherAI's lm-evaluation-harness says of two random models on them.

    python3 -m pip install torch transformers sentencepiece lm-eval==0.4.13
    python3 tests/golden/make_evaluations.py            # writes tests/golden/evaluations

Models are tests/exchange/models/gpt2 and llama2 (make_hf_models.py), which have 61 ids and read 64; the tokenizer is a
SentencePiece model of as many pieces, made here. Its texts are of words drawn at random, some with spaces at their ends,
capitals, digits and characters of several bytes, and some too long for the models. The harness does all but the encoding
and the network: windows, cuts, choices and metrics are its own. expected.json has for each model and task the metrics,
their standard errors and the number of examples.
"""

import json
import os
import pathlib
import random

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"

import sentencepiece
import torch
import transformers
from lm_eval import evaluator
from lm_eval.api.metrics import mean_stderr
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks.hellaswag.utils import process_docs as hellaswag_docs
from lm_eval.tasks.winogrande import preprocess_winogrande as winogrande
from lm_eval import utils

ROOT = pathlib.Path(__file__).parent
FOLDER = ROOT / "evaluations"
CONTEXT, VOCABULARY, BEGIN, END = 64, 61, 1, 2
WORDS = ("the a rain falls on old stone house and every tree in our garden sings while children run to sea where small boats "
         "turn slowly under grey light of morning nobody knows why cats sleep near warm ovens or how long winter stays").split()
# First lines, which the harness does not read.
HEADERS = dict(last_word={}, classification=dict(labels=["bad", "good", "so so"], after="\nIt was"))


class Model(TemplateLM):
    """transformers' network behind SentencePiece's tokens."""

    backend = "causal"

    def __init__(self, name, tokenizer):
        super().__init__()
        self.network = transformers.AutoModelForCausalLM.from_pretrained(
            ROOT.parent / "exchange/models" / name, attn_implementation="eager").eval()
        self.tokens = tokenizer

    @property
    def eot_token_id(self):
        return END

    @property
    def prefix_token_id(self):
        return BEGIN

    def tok_encode(self, text, add_special_tokens=None, **_):
        return self.tokens.encode(text)

    @torch.no_grad()
    def _loglikelihood_tokens(self, requests, disable_tqdm=False, **_):
        answers = []
        for _, context, continuation in requests:
            ids = torch.tensor([(context + continuation)[-(CONTEXT + 1):]])
            logits = torch.log_softmax(self.network(input_ids=ids[:, :-1]).logits[0].float(), -1)[-len(continuation):]
            target = ids[0, -len(continuation):]
            total = logits.gather(1, target[:, None]).double().sum().item()
            answers.append((total, bool((logits.argmax(-1) == target).all())))
        return answers

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        totals = []
        for (text,) in (request.args for request in requests):
            windows = map(utils.make_disjoint_window,
                          utils.get_rolling_token_windows(self.tok_encode(text), BEGIN, CONTEXT, 1))
            totals.append(sum(score for score, _ in self._loglikelihood_tokens([(None,) + w for w in windows])))
        return totals

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


def text_of(draw, least, most):
    words = draw.choices(WORDS, k=draw.randint(least, most))
    if draw.random() < 0.3:
        words[draw.randrange(len(words))] = draw.choice(["Ärger", "naïve", "42", "東京", "Ann's", "x_y", "été"])
    return " ".join(words)


def lines_of(draw):
    def context():
        return text_of(draw, 1, 9) + draw.choice(["", "", ":", " ", "  ", "\n", ".\u00a0"])

    def longer(i):
        return text_of(draw, 30, 40) if i % 9 == 4 else text_of(draw, 2, 9)

    tasks = {name: [] for name in ("multiple_choice", "hellaswag", "arc", "piqa", "winogrande", "last_word",
                                   "classification", "perplexity")}
    for i in range(60):
        choices = [text_of(draw, 1, 4) for _ in range(draw.randint(2, 5))]
        tasks["multiple_choice"].append(dict(context="" if i % 10 == 0 else longer(i) if i % 9 == 4 else context(),
                                             choices=choices, answer=draw.randrange(len(choices))))
        endings = [text_of(draw, 1, 5) + draw.choice(["", " [substeps] and more", " [title] end"]) for _ in range(4)]
        tasks["hellaswag"].append(dict(ind=i, activity_label=text_of(draw, 1, 2), ctx_a=" " + longer(i) + " [header] .",
                                       ctx_b=draw.choice(["", "the Cat " + text_of(draw, 1, 3)]), endings=endings,
                                       label=str(draw.randrange(4)), split="val"))
        letters = "ABCDE"[:draw.randint(3, 5)] if i % 2 else "1234"
        tasks["arc"].append(dict(id=str(i), question=longer(i) + "?",
                                 choices=dict(text=[text_of(draw, 1, 3) for _ in letters], label=list(letters)),
                                 answerKey=draw.choice(letters)))
        tasks["piqa"].append(dict(goal=longer(i), sol1=text_of(draw, 1, 4), sol2=text_of(draw, 1, 4),
                                  label=draw.randrange(2)))
        tasks["winogrande"].append(dict(sentence=text_of(draw, 1, 4) + " _ " + text_of(draw, 1, 4), option1=text_of(draw, 1, 1),
                                        option2=text_of(draw, 1, 1), answer=str(draw.randint(1, 2))))
        # One in three is easy: its last word is one letter.
        tasks["last_word"].append(dict(text=longer(i) + (" " + draw.choice("aeiou") if i % 3 == 0 else "")))
        tasks["classification"].append(dict(text=longer(i), label=draw.choice(HEADERS["classification"]["labels"])))
        if i < 12:
            tasks["perplexity"].append(dict(text=draw.choice(["", "  "]) + text_of(draw, 1, 90) + draw.choice(["", "\n"])))
    return tasks


def task_config(name):
    lines = f"{name}_lines.jsonl" if name in HEADERS else f"{name}.jsonl"
    config = dict(task=name, dataset_path="json", dataset_kwargs=dict(data_files=dict(test=str(FOLDER / lines))),
                  test_split="test", output_type="multiple_choice",
                  metric_list=[dict(metric=m) for m in ("acc", "acc_norm", "acc_bytes")])
    choices = "{{choices.text}}"
    if name == "multiple_choice":
        config.update(doc_to_text=lambda doc: doc["context"], doc_to_choice=lambda doc: doc["choices"],
                      doc_to_target=lambda doc: doc["answer"])
    elif name == "hellaswag":
        config.update(process_docs=hellaswag_docs, doc_to_text="{{query}}", doc_to_target="{{label}}", doc_to_choice="choices")
    elif name == "arc":
        config.update(doc_to_text="Question: {{question}}\nAnswer:", doc_to_choice=choices,
                      doc_to_target="{{choices.label.index(answerKey)}}")
    elif name == "piqa":
        config.update(doc_to_text="Question: {{goal}}\nAnswer:", doc_to_target="label", doc_to_choice="{{[sol1, sol2]}}")
    elif name == "winogrande":
        config.update(doc_to_text=winogrande.doc_to_text, doc_to_target=winogrande.doc_to_target,
                      doc_to_choice=winogrande.doc_to_choice, metric_list=[dict(metric="acc")])
    elif name == "last_word":
        config.update(output_type="loglikelihood", doc_to_text="{{text.split(' ')[:-1]|join(' ')}}",
                      doc_to_target="{{' '+text.split(' ')[-1]}}", target_delimiter="",
                      metric_list=[dict(metric="perplexity"), dict(metric="acc")])
    elif name == "classification":
        labels, after = (HEADERS[name][field] for field in ("labels", "after"))
        config.update(doc_to_text=lambda doc: doc["text"] + after, doc_to_choice=lambda doc: labels,
                      doc_to_target=lambda doc: labels.index(doc["label"]))
    else:
        config.update(output_type="loglikelihood_rolling", doc_to_text="", doc_to_target=lambda doc: doc["text"],
                      metric_list=[dict(metric=m) for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")])
    return config


def main():
    FOLDER.mkdir(exist_ok=True)
    draw = random.Random(7)
    lines = lines_of(draw)
    for name, examples in lines.items():
        if name in HEADERS:
            (FOLDER / f"{name}_lines.jsonl").write_text("".join(json.dumps(e) + "\n" for e in examples))
            examples = [dict(kind=name, **HEADERS[name])] + examples
        (FOLDER / f"{name}.jsonl").write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in examples))
    corpus = FOLDER / "corpus.txt"
    corpus.write_text("\n".join(text_of(draw, 5, 9) for _ in range(400)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(FOLDER / "tokenizer"), vocab_size=VOCABULARY, model_type="bpe",
        character_coverage=1.0, unk_id=0, bos_id=BEGIN, eos_id=END, pad_id=-1, add_dummy_prefix=False,
        remove_extra_whitespaces=False, normalization_rule_name="identity", minloglevel=2)
    corpus.unlink()
    (FOLDER / "tokenizer.vocab").unlink()
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "tokenizer.model"))
    transformers.logging.set_verbosity_error()
    expected = {}
    for name in ("gpt2", "llama2"):
        model = Model(name, tokenizer)
        expected[name] = {}
        for task in lines:
            result = evaluator.evaluate(model, {task: ConfigurableTask(config=task_config(task))}, bootstrap_iters=0)
            metrics = result["results"][task]
            expected[name][task] = {key.split(",")[0]: value for key, value in metrics.items()
                                    if key != "alias" and not isinstance(value, str)}
            for metric in [key for key in expected[name][task] if key.startswith("acc")]:
                n = len(lines[task])
                right = round(expected[name][task][metric] * n)
                expected[name][task][metric + "_stderr"] = mean_stderr([1] * right + [0] * (n - right))
            print(name, task, expected[name][task])
    for name in HEADERS:
        (FOLDER / f"{name}_lines.jsonl").unlink()
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
