"""A training loop as people have it: a small GPT in plain PyTorch, AdamW, a CSV log. Nothing of latebloom is in it.

python own_loop.py data.bin log.csv --depth 1 --iters 160 --warmup 8 --decay 16 [--grow-at 80 --grow-to 3]
"""

import argparse
import csv

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

CONTEXT, WIDTH, HEADS, VOCABULARY, SEQUENCES = 32, 32, 2, 256, 8


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        parts = [part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in self.qkv(self.norm_1(x)).chunk(3, dim=2)]
        x = x + self.out(F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_2(x))


class Model(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(depth)), nn.LayerNorm(WIDTH)

    def forward(self, ids):
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T


def main(words=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("log")
    for name in ("depth", "iters", "warmup", "decay", "grow-at", "grow-to"):
        parser.add_argument(f"--{name}", type=int, default=0)
    args = parser.parse_args(words)
    data = torch.from_numpy(np.fromfile(args.data, dtype=np.uint16).astype(np.int64))
    cut = len(data) * 9 // 10
    torch.manual_seed(0)
    model = Model(args.depth)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.01)

    def rate(step):
        if step < args.warmup:
            return 0.01 * (step + 1) / args.warmup
        return 0.01 * min(1.0, (args.iters - step) / max(args.decay, 1))

    def loss_of(part, generator, sequences):
        starts = torch.randint(len(part) - CONTEXT - 1, (sequences,), generator=generator)
        rows = torch.stack([part[start : start + CONTEXT + 1] for start in starts])
        return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

    batches = torch.Generator().manual_seed(1)
    with open(args.log, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["iter", "train/loss", "val/loss", "lr"])
        for step in range(args.iters + 1):
            val = ""
            if step % 8 == 0 or step == args.iters:
                with torch.no_grad():
                    val = loss_of(data[cut:], torch.Generator().manual_seed(2), 64).item()
            if step == args.iters:
                table.writerow([step, "", val, ""])
                break
            if args.grow_to and step == args.grow_at:
                new = nn.ModuleList(Block() for _ in range(args.grow_to - args.depth))
                model.blocks.extend(new)
                optimizer.add_param_group({"params": list(new.parameters())})
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            loss = loss_of(data[:cut], batches, SEQUENCES)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            table.writerow([step, loss.item(), val, rate(step)])


if __name__ == "__main__":
    main()
