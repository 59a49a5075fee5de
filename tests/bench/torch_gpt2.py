"""Times training steps of GPT-2 124M in PyTorch on the CPU, to compare `trefoil bench` with.

    pip install torch numpy     # or, for 1.13: apt install python3-torch
    python torch_gpt2.py --batch=4 --tokens=64                                        # float32
    python torch_gpt2.py --batch=4 --tokens=64 --dtype=bfloat16 --mode=autocast       # float32 weights, bf16 products
    python torch_gpt2.py --batch=4 --tokens=64 --dtype=bfloat16 --mode=pure           # everything in bf16
    python torch_gpt2.py --batch=4 --tokens=64 --dtype=bfloat16 --mode=pure --compile

The same step as (BF16, or FP32 for float32):

    trefoil bench --config=gpt2_124m --set model.sequence_length=64 --set model.dropout=0 \
        --set training.global_batch=4 --set training.micro_batch=4 --set training.precision=BF16

The model is plain: weights and tokens are random, there is no dropout, the step is forward, backward, clipping to norm 1
and AdamW.
"""

import argparse
import contextlib
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

LAYERS, HEADS, HIDDEN, VOCABULARY, POSITIONS = 12, 12, 768, 50257, 1024


def attention(q, k, v):
    if hasattr(functional, "scaled_dot_product_attention"):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    future = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1)  # PyTorch before 2.0
    scores = (q @ k.transpose(2, 3)) / q.shape[3] ** 0.5
    return scores.masked_fill(future, float("-inf")).softmax(dim=3) @ v


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(HIDDEN)
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.projection = nn.Linear(HIDDEN, HIDDEN)
        self.norm2 = nn.LayerNorm(HIDDEN)
        self.up = nn.Linear(HIDDEN, 4 * HIDDEN)
        self.down = nn.Linear(4 * HIDDEN, HIDDEN)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = (
            part.view(batch, tokens, HEADS, HIDDEN // HEADS).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(HIDDEN, dim=2)
        )
        y = attention(q, k, v)
        x = x + self.projection(y.transpose(1, 2).reshape(batch, tokens, HIDDEN))
        return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, HIDDEN)
        self.position = nn.Embedding(POSITIONS, HIDDEN)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(HIDDEN)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, inputs, targets):
        x = self.token(inputs) + self.position.weight[: inputs.shape[1]]
        logits = functional.linear(self.norm(self.blocks(x)), self.token.weight)  # the head is tied to the embedding
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64, help="length of a sequence, at most 1024")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--mode", choices=["autocast", "pure"], default="autocast", help="of bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--steps", type=int, default=5, help="steps to time; the median counts")
    parser.add_argument("--warm_up", type=int, default=2, help="steps before those")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    bfloat16 = options.dtype == "bfloat16"
    model = Gpt2()
    if bfloat16 and options.mode == "pure":
        model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    autocast = bfloat16 and options.mode == "autocast"
    context = torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext()
    step_model = torch.compile(model) if options.compile else model

    inputs, targets = torch.randint(VOCABULARY, (2, options.batch, options.tokens))
    seconds = []
    for step in range(options.warm_up + options.steps):
        start = time.perf_counter()
        with context:
            loss = step_model(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()
        seconds.append(time.perf_counter() - start)
        print(f"step {step}: loss {value:.4f}, {seconds[-1]:.3f} s", flush=True)

    median = statistics.median(seconds[options.warm_up :])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"torch {torch.__version__}, {parameters} parameters, {options.dtype}"
        f"{' ' + options.mode if bfloat16 else ''}{' compiled' if options.compile else ''}, "
        f"{options.batch} x {options.tokens} tokens, {options.threads} threads: "
        f"{median:.3f} s/step, {options.batch * options.tokens / median:.1f} tokens/s"
    )


if __name__ == "__main__":
    main()
