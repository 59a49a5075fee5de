#include "launcher/command.h"
#include "launcher/commands/commands.h"

namespace trefoil {

std::span<const Command> Commands() {
  static const std::vector<Command>& commands = *new std::vector<Command>{
      {.name = "tokenize",
       .summary = "Train a tokenizer on text files, and write them as token files.",
       .examples = "  trefoil tokenize --input='text/*.txt' --output=corpus --vocabulary=4096\n"
                   "  trefoil launch -n 8 -- tokenize --input='web/*.jsonl[.gz|.zst]' --output=corpus --tokenizer=t.model\n"
                   "  trefoil tokenize --input='text/*.txt' --output=corpus --vocabulary=32000 --tokenizer_kind=byte_bpe\n"
                   "      # a tokenizer.json, which Hugging Face's libraries open; --tokenizer=FOLDER takes theirs\n"
                   "  trefoil tokenize --input='wmt14/*.jsonl.gz' --output=wmt14 --records=pairs --vocabulary=32000\n"
                   "      # of lines {\"source\": \"Guten Tag.\", \"target\": \"Good day.\"}\n",
       .flag_files = {"launcher/commands/tokenize.cc", "launcher/corpus_flags.cc", "launcher/flags/input.cc",
                      "launcher/flags/output.cc", "launcher/flags/overwrite.cc"},
       .main = TokenizeMain},
      {.name = "images",
       .summary = "Pack pictures and their classes into image files, at one size.",
       .examples = "  trefoil images --input=photos --output=pets/train --size=256    # photos/cat/1.jpg, photos/dog/2.png ...\n"
                   "  trefoil images --images=train-images-idx3-ubyte.gz --labels=train-labels-idx1-ubyte.gz \\\n"
                   "      --output=mnist/train --held_out=0                           # MNIST's files; its test set is apart\n"
                   "  trefoil launch -n 8 -- images --input=imagenet --output=imagenet_256/train --size=256 --held_out=0.01\n"
                   "Each class's folder gives a class its name; labels count them, by name, from 0. A picture is scaled to just\n"
                   "cover --size x --size, and its middle kept. Pictures larger than what a model sees leave room for random\n"
                   "crops: 256 for 224. Writes FOLDER/NAME-00000.images ..., and FOLDER/held_out-00000.images ... of the share\n"
                   "of each class that is held out.\n",
       .flag_files = {"launcher/commands/images.cc", "launcher/corpus_flags.cc", "launcher/flags/input.cc",
                      "launcher/flags/output.cc", "launcher/flags/overwrite.cc"},
       .main = ImagesMain},
      {.name = "launch",
       .summary = "Run a command on several ranks of this machine; Ctrl-C saves and stops.",
       .examples = "  trefoil launch -n 4 -- train --config=quickstart --set data.train='corpus/train-*'\n"
                   "  trefoil launch -n 8 --mpirun='--hostfile hosts' -- train --config=run.pbtxt\n",
       .flag_files = {"launcher/commands/launch.cc"},
       .word_ends_flags = true,
       .main = LaunchMain},
      {.name = "presets",
       .summary = "List the configs and clusters that are built in, or print one.",
       .examples = "  trefoil presets\n"
                   "  trefoil presets llama_60m > run.pbtxt      # to start a config of your own\n",
       .flag_files = {},
       .main = PresetsMain},
      {.name = "plan",
       .summary = "Say what a run will take, in memory, bytes and time, on machines that need not be there.",
       .examples = "  trefoil plan --config=gpt_1t --set parallel.data=6 --cluster=selene_a100\n"
                   "  trefoil plan --config=gpt_1t --cluster=selene_a100 --gpus=3072 --search\n"
                   "  trefoil plan --config=gpt3_13b --set parallel.pipeline=8 --cluster=selene_a100 --schedules\n"
                   "  trefoil plan --config=llama_8b --gpus=64 --cluster=my_cluster.pbtxt --picture=step.svg\n"
                   "  trefoil plan --config=llama_8b --set parallel.tensor=2 --set parallel.data=4 --ranks_picture=ranks.svg\n",
       .flag_files = {"launcher/commands/plan.cc", "launcher/flags/top.cc", "launcher/prepare.cc"},
       .sets = true,
       .main = PlanMain},
      {.name = "rehearse",
       .summary = "Run one rank of a large job alone on this machine, beside what is planned for it.",
       .examples = "  trefoil rehearse --config=gpt_1t --set parallel.pipeline=128 --set parallel.data=3 --rank=17\n"
                   "  trefoil rehearse --config=llama_7b --ranks=64 --rank=63 --here=this_machine.pbtxt\n",
       .flag_files = {"launcher/commands/rehearse.cc", "launcher/prepare.cc"},
       .sets = true,
       .main = RehearseMain},
      {.name = "train",
       .summary = "Train the run that a config describes, or go on with it.",
       .examples = "  trefoil launch -n 4 -- train --config=quickstart --set folder=runs/a --set 'data.train=tokens/train-*'\n"
                   "  mpirun -n 8 trefoil train --config=run.pbtxt --set parallel.tensor=2 --set parallel.pipeline=2\n"
                   "Data ranks are what tensor x pipeline leaves. The run's folder gets checkpoints and metrics; the same\n"
                   "command again goes on from the newest checkpoint.\n"
                   "Exit status: 0 finished; 75 (EX_TEMPFAIL) stopped on request (SIGINT, SIGTERM, SIGUSR1) and saved, the same\n"
                   "command goes on; anything else is an error.\n",
       .flag_files = {"launcher/prepare.cc", "launcher/commands/train.cc"},
       .sets = true,
       .main = TrainMain},
      {.name = "generate",
       .summary = "Continue prompts with a trained model.",
       .examples = "  trefoil generate --checkpoint=runs/austen --prompt='It is a truth'\n"
                   "  trefoil generate --checkpoint=runs/austen/checkpoints/step-00000500 --temperature=0\n"
                   "  trefoil generate --checkpoint=runs/austen --prompts=beginnings.txt --samples=4 --json\n"
                   "  trefoil launch -n 4 -- generate --checkpoint=runs/large --tensor=2 --pipeline=2 --precision=BF16 \\\n"
                   "      --interactive\n"
                   "A prompt's text is printed as it comes; those of several prompts, or samples, each when it is done, in their\n"
                   "order. Speeds follow on standard error.\n",
       .flag_files = {"launcher/commands/generate.cc", "launcher/flags/batch.cc", "launcher/flags/checkpoint.cc",
                      "launcher/flags/json.cc", "launcher/flags/layout.cc", "launcher/flags/samples.cc",
                      "launcher/flags/tokens.cc", "launcher/trained_model.cc"},
       .repeated = {{.name = "prompt",
                     .value = "TEXT",
                     .description = "Text to continue. None, or an empty one: the model starts a document."},
                    {.name = "stop",
                     .value = "TEXT",
                     .description = "Where the text comes to this, it is cut before it and ends."}},
       .main = GenerateMain},
      {.name = "predict",
       .summary = "Ask a trained model: translations, classes, values, masked words, what comes next.",
       .examples = "  trefoil predict --checkpoint=runs/de_en --text='Guten Tag.'\n"
                   "  trefoil predict --checkpoint=runs/de_en news.de --output=news.en --batch=64\n"
                   "  trefoil predict --checkpoint=runs/de_en 'wmt14/held_out-*'      # records: BLEU and chrF at the end\n"
                   "  trefoil predict --checkpoint=runs/reviews reviews.jsonl --json  # {\"text\": ..., \"label\": ...} a line\n"
                   "  trefoil predict --checkpoint=runs/bert --text='It is a [MASK] universally acknowledged' --top=5\n"
                   "  trefoil predict --checkpoint=runs/pets 'photos/*.jpg' --top=3\n"
                   "  trefoil predict --checkpoint=runs/gpt -  < beginnings.txt       # continues each line\n"
                   "What is said depends on the task that the run was trained on, which its config.pbtxt has:\n"
                   "  TRANSLATION, SPAN_CORRUPTION    what the decoder writes, by beam search. A text that is longer than\n"
                   "                                  the model reads is cut, and a note says so. Spans are <extra_id_0> ...\n"
                   "  NEXT_TOKEN, ANSWERS             how each text goes on; greedily, unless --beam is given\n"
                   "  TEXT_CLASSES, TOKEN_CLASSES     class and probability of a text, or of each word, a line each\n"
                   "  TEXT_VALUE                      the number\n"
                   "  MASKED_TOKEN                    the text with each [MASK] filled, then the likeliest pieces\n"
                   "  IMAGE_CLASSES                   class and probability. Pictures are scaled to just cover the model's\n"
                   "                                  image size; those of packed files are cut as in an evaluation\n"
                   "Input is lines of text, .jsonl, records in token files (PREFIX or a pattern), pictures, or packed images.\n"
                   "Where it has the right answers (\"target\", \"label\"; records, packed images), scores follow on standard\n"
                   "error. For one answer a line holds it alone; --json has all that is known.\n",
       .flag_files = {"launcher/commands/predict.cc", "launcher/flags/batch.cc", "launcher/flags/checkpoint.cc",
                      "launcher/flags/input.cc",
                      "launcher/flags/json.cc", "launcher/flags/layout.cc", "launcher/flags/output.cc",
                      "launcher/flags/text.cc", "launcher/flags/tokens.cc", "launcher/flags/top.cc",
                      "launcher/trained_model.cc"},
       .main = PredictMain},
      {.name = "evaluate",
       .summary = "Measure a trained model on tasks: perplexity, multiple choice, last words, classes by words.",
       .examples = "  trefoil evaluate --checkpoint=runs/austen --task=emma.txt\n"
                   "  trefoil evaluate --checkpoint=runs/smollm2 --task=arc_easy.jsonl,last_word:lambada.jsonl\n"
                   "  trefoil launch -n 8 -- evaluate --checkpoint=runs/large --tensor=2 --pipeline=2 --task='tasks/*.jsonl'\n"
                   "Ranks beyond tensor x pipeline are copies that share the work. A task is FILE or KIND:FILE:\n"
                   "  perplexity        a .txt, or lines {\"text\": ...}, each a document\n"
                   "  multiple_choice   lines {\"context\": ..., \"choices\": [...], \"answer\": 0}; HellaSwag's, ARC's, PIQA's and\n"
                   "                    WinoGrande's own\n"
                   "  last_word         lines {\"text\": ...}\n"
                   "  classification    lines {\"text\": ..., \"label\": ...} behind a first line with the labels:\n"
                   "                    {\"kind\": \"classification\", \"labels\": [\"bad\", \"good\"]}\n"
                   "Counts as EleutherAI's lm-evaluation-harness does; docs/evaluation.md has the rules.\n",
       .flag_files = {"launcher/commands/evaluate.cc", "launcher/flags/checkpoint.cc", "launcher/flags/json.cc",
                      "launcher/flags/layout.cc", "launcher/flags/output.cc", "launcher/trained_model.cc"},
       .main = EvaluateMain},
      {.name = "explain",
       .summary = "Show what a trained model makes of its context, as JSON to draw from.",
       .examples = "  trefoil explain --checkpoint=runs/austen --show=losses                  # by place in the sample\n"
                   "  trefoil explain --checkpoint=runs/austen --show=gradients --samples=64  # by distance from the loss\n"
                   "  trefoil explain --checkpoint=runs/de_en --show=attention --text='Guten Tag.' --output=tag.json\n"
                   "  trefoil explain --checkpoint=runs/pets --show=attention --image=cat.jpg\n",
       .flag_files = {"launcher/commands/explain.cc", "launcher/flags/checkpoint.cc", "launcher/flags/output.cc",
                      "launcher/flags/samples.cc", "launcher/flags/text.cc", "launcher/trained_model.cc"},
       .main = ExplainMain},
      {.name = "import",
       .summary = "Make a run of a model that others have trained: a Hugging Face folder, or a GGUF file.",
       .examples = "  trefoil import --from=SmolLM2-135M --to=runs/smollm2\n"
                   "  trefoil import --from=SmolLM2-135M-Instruct.Q4_1.gguf --to=runs/instruct\n"
                   "  trefoil launch -n 8 -- import --from=Llama-3.1-70B --to=runs/llama_70b\n"
                   "  trefoil train --config=runs/smollm2/config.pbtxt --set folder=runs/law \\\n"
                   "      --set training.checkpoint.initial_weights=runs/smollm2 --set 'data.train=law/train-*'\n"
                   "Families: GPT-2; Llama 2 and 3, SmolLM2, Mistral, Qwen2, Qwen2.5, Qwen3; BERT; T5 1.1; ViT. Reads config.json,\n"
                   "safetensors and the tokenizer's files; a GGUF file of Llama's kind (F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K)\n"
                   "has all of these in it. Writes weights as float32, without an optimizer's state, the tokenizer, and a config.pbtxt\n"
                   "to train on from. Ranks share the work; each holds a piece of a tensor at a time.\n",
       .flag_files = {"launcher/commands/import.cc", "launcher/flags/from_to.cc"},
       .main = ImportMain},
      {.name = "export",
       .summary = "Write a trained model as a folder that Hugging Face's transformers opens.",
       .examples = "  trefoil export --from=runs/a --to=a.hf\n"
                   "  trefoil export --from=runs/a/checkpoints/step-00000500 --to=a.hf --dtype=bf16 --shard_gb=2\n"
                   "  trefoil launch -n 8 -- export --from=runs/llama_70b --to=llama.hf --dtype=bf16\n"
                   "Then in Python: AutoModelForCausalLM.from_pretrained('a.hf'), AutoTokenizer.from_pretrained('a.hf').\n"
                   "Families: GPT, LLAMA (as Llama, Mistral, Qwen2 or Qwen3, by what it has), BERT, T5, VIT.\n",
       .flag_files = {"launcher/commands/export.cc", "launcher/flags/from_to.cc", "launcher/flags/overwrite.cc"},
       .main = ExportMain},
      {.name = "merge",
       .summary = "Add low-rank adapters to the matrices that they were trained beside.",
       .examples = "  trefoil merge --checkpoint=runs/lora --output=runs/lora_merged\n"
                   "The output is the folder of a plain model, to generate and predict with, or for\n"
                   "training.checkpoint.initial_weights.\n",
       .flag_files = {"launcher/flags/checkpoint.cc", "launcher/flags/output.cc"},
       .main = MergeMain},
      {.name = "inspect",
       .summary = "Look into a run, a checkpoint, token or image files, or a tokenizer.",
       .examples = "  trefoil inspect runs/austen                                     # what ran, how far, what is there\n"
                   "  trefoil inspect runs/austen/checkpoints/step-00000500 --verify  # parameters; is every byte right?\n"
                   "  trefoil inspect 'tokens/train-*' --document=3                   # lengths, and a document as text\n"
                   "  trefoil inspect 'pets/train-*' --verify                         # images: classes, mean, deviation\n"
                   "  trefoil inspect tokens/tokenizer.model --text='It is a truth'   # its pieces, and these tokens\n",
       .flag_files = {"launcher/commands/inspect.cc", "launcher/flags/text.cc"},
       .main = InspectMain},
      {.name = "checkpoint",
       .summary = "Look after the checkpoints of a run: list, verify, copy, prune.",
       .examples = "  trefoil checkpoint list runs/austen             # which there are, what each takes, why it is kept\n"
                   "  trefoil checkpoint verify runs/austen           # is every byte of them as it was written?\n"
                   "  trefoil checkpoint copy runs/austen backup/austen --step=500\n"
                   "  trefoil checkpoint copy n1/ckpt n2/ckpt n3/ckpt backup/austen      # a part of it on each host\n"
                   "  trefoil checkpoint prune runs/austen --keep_last=2 --keep_every=1000 --dry_run\n"
                   "A run's folder is meant, its folder checkpoints, or one of those in there.\n"
                   "copy checks every byte, takes what one folder lacks or has damaged from the next, and overwrites\n"
                   "nothing. What it writes is a run's folder. The best held-out checkpoint outlives every prune.\n"
                   "Exit status: 0; 1 where something is damaged, missing or in use; 2 for a wrong command line.\n",
       .flag_files = {"launcher/commands/checkpoint.cc"},
       .main = CheckpointMain},
      {.name = "bench",
       .summary = "Time training steps of a config on made-up tokens, and say where the time goes.",
       .examples = "  trefoil bench --config=gpt2_124m --set training.global_batch=4 --set training.micro_batch=4\n"
                   "  trefoil launch -n 2 -- bench --config=llama_60m --set parallel.tensor=2\n",
       .flag_files = {"launcher/commands/bench.cc", "launcher/prepare.cc"},
       .sets = true,
       .main = BenchMain},
      {.name = "calibrate",
       .summary = "Measure this machine, and write what a plan needs to know of it.",
       .examples = "  trefoil calibrate --output=laptop.pbtxt\n"
                   "  trefoil launch -n 2 -- calibrate --output=laptop.pbtxt     # messages between ranks too\n"
                   "Takes half a minute. Other programs that run meanwhile do the least harm with a rank for each core.\n",
       .flag_files = {"launcher/flags/output.cc"},
       .main = CalibrateMain},
  };
  return commands;
}

}  // namespace trefoil
