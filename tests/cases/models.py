"""Models as other people write them, small: what the cases of ``tests/cases`` grow."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclasses.dataclass
class Settings:
    n_layer: int = 2
    width: int = 16
    vocab: int = 64
    context: int = 16
    bias: bool = True


class Mixer(nn.Module):
    """Pre-norm attention with one head, and an MLP, under nanoGPT's names."""

    def __init__(self, settings: Settings):
        super().__init__()
        width, bias = settings.width, settings.bias
        self.ln_1, self.ln_2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
        self.c_attn, self.out_proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width, bias=bias), nn.Linear(4 * width, width, bias=bias)

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.c_attn(x).chunk(3, dim=-1)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def mlp(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


ENDS = ("out_proj", "c_proj")


class Gpt(nn.Module):
    """The public structure of nanoGPT: transformer.wte, wpe, h, ln_f, a tied head, ends of branches scaled by depth."""

    def __init__(self, config: Settings):
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab, config.width),
                "wpe": nn.Embedding(config.context, config.width),
                "h": self.holder(config),
                "ln_f": nn.LayerNorm(config.width, bias=config.bias),
            }
        )
        self.lm_head = nn.Linear(config.width, config.vocab, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        self.apply(self._init_weights)
        for name, p in self.named_parameters():
            if name.endswith(("out_proj.weight", ".c_proj.weight")):
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.n_layer))
        self.beside(config)

    def holder(self, config: Settings) -> nn.Module:
        return nn.ModuleList(Mixer(config) for _ in range(config.n_layer))

    def beside(self, config: Settings) -> None:
        """What a kind of model keeps beside its blocks."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def through(self, x: Tensor) -> Tensor:
        for block in self.transformer["h"]:
            x = block(x)
        return x

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.transformer["wte"](ids) + self.transformer["wpe"](places)
        return self.lm_head(self.transformer["ln_f"](self.through(x)))

    @property
    def blocks(self) -> list[nn.Module]:
        held = self.transformer["h"]
        return list(held.values()) if isinstance(held, nn.ModuleDict) else list(held)


class Numbered(Gpt):
    """Blocks in a dictionary by number."""

    def holder(self, config: Settings) -> nn.Module:
        return nn.ModuleDict({str(i): Mixer(config) for i in range(config.n_layer)})

    def through(self, x: Tensor) -> Tensor:
        for block in self.transformer["h"].values():
            x = block(x)
        return x


class Scales(Gpt):
    """A learnt scale for each layer, zipped with the blocks: what has none does not run."""

    def beside(self, config: Settings) -> None:
        self.scales = nn.Parameter(torch.ones(config.n_layer))

    def through(self, x: Tensor) -> Tensor:
        for block, scale in zip(self.transformer["h"], self.scales, strict=False):
            x = block(scale * x)
        return x


class ScaleList(Gpt):
    """The same, a parameter each, by index."""

    def beside(self, config: Settings) -> None:
        self.scales = nn.ParameterList(torch.ones(()) for _ in range(config.n_layer))

    def through(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.transformer["h"]):
            x = block(self.scales[i] * x)
        return x


class Halves(Gpt):
    """The first half is remembered, the second adds it: two counts that are not the depth."""

    def beside(self, config: Settings) -> None:
        self.down, self.up = config.n_layer // 2, config.n_layer - config.n_layer // 2

    def through(self, x: Tensor) -> Tensor:
        kept = []
        for i in range(self.down):
            x = self.transformer["h"][i](x)
            kept.append(x)
        for i in range(self.up):
            x = self.transformer["h"][self.down + i](x + 0.1 * kept.pop())
        return x


class OtherCount(Gpt):
    """A count under another usual name."""

    def beside(self, config: Settings) -> None:
        self.num_blocks = config.n_layer

    def through(self, x: Tensor) -> Tensor:
        for i in range(self.num_blocks):
            x = self.transformer["h"][i](x)
        return x


class OddCount(Gpt):
    """A count under a name that nobody else has."""

    def beside(self, config: Settings) -> None:
        self.how_many = config.n_layer

    def through(self, x: Tensor) -> Tensor:
        for i in range(self.how_many):
            x = self.transformer["h"][i](x)
        return x


class Windows(Gpt):
    """A plain list with an entry for each layer."""

    def beside(self, config: Settings) -> None:
        self.layer_windows = [4, 16] * (config.n_layer // 2)

    def through(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.transformer["h"]):
            x = block(x) if self.layer_windows[i] else x
        return x


class Alias(Gpt):
    """Runs a second list of the same blocks."""

    def beside(self, config: Settings) -> None:
        self.order = list(self.transformer["h"])

    def through(self, x: Tensor) -> Tensor:
        for block in self.order:
            x = block(x)
        return x


class ByDepth(Gpt):
    """Branches divided by the number of blocks, looked up at every pass."""

    def through(self, x: Tensor) -> Tensor:
        for block in self.transformer["h"]:
            x = x + (block(x) - x) * 2.0 / self.config.n_layer
        return x


class EveryOther(Gpt):
    """What a block does depends on whether its place is even."""

    def through(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.transformer["h"]):
            x = block(x) if i % 2 == 0 else block(x.flip(-1)).flip(-1)
        return x


class LastSkipped(Gpt):
    """Another kind of place: the last block's output counts half."""

    def through(self, x: Tensor) -> Tensor:
        for block in self.transformer["h"]:
            before, x = x, block(x)
        return 0.5 * (before + x)


class PostNorm(nn.Module):
    """Normed after the addition, and its call needs a second argument."""

    def __init__(self, settings: Settings):
        super().__init__()
        self.inner, self.norm = Mixer(settings), nn.LayerNorm(settings.width)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        return self.norm(self.inner(x) + 0 * places)


class PostNormGpt(Gpt):
    def holder(self, config: Settings) -> nn.Module:
        return nn.ModuleList(PostNorm(config) for _ in range(config.n_layer))

    def through(self, x: Tensor) -> Tensor:
        for block in self.transformer["h"]:
            x = block(x, torch.zeros(1))
        return x


class NeedsMask(Mixer):
    """Pre-norm, and its call needs a second argument."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + 0 * mask


class Frames(nn.Module):
    """No tokens: frames of numbers in, blocks that need more than them."""

    def __init__(self, config: Settings):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(NeedsMask(config) for _ in range(config.n_layer))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x


class Empty(nn.Module):
    """No blocks yet."""

    def __init__(self):
        super().__init__()
        self.table, self.blocks, self.head = nn.Embedding(64, 16), nn.ModuleList(), nn.Linear(16, 64, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def stirred(model: nn.Module) -> nn.Module:
    """``model`` as if trained: no parameter where an initialiser would leave it."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return model


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Tokens and the next ones, which can be learnt."""
    start = torch.randint(64, (4, 1), generator=torch.Generator().manual_seed(step))
    ids = (start + 3 * torch.arange(17)) % 64
    return ids[:, :-1], ids[:, 1:]


def loss_of(model: nn.Module, step: int) -> Tensor:
    """Cross-entropy of the batch of a step."""
    ids, targets = batch(step)
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())


def muon_and_adamw(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Two optimizers, as everybody has who uses torch.optim.Muon: it takes the blocks' matrices only."""
    inside = {id(p) for name, p in model.named_parameters() if ".h." in name and p.ndim == 2}
    matrices = [p for p in model.parameters() if id(p) in inside]
    rest = [p for p in model.parameters() if id(p) not in inside]
    return [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=1e-3)]
