"""Growing anyone's model: kinds 1, 3, 5 to 8 and 10."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from latebloom import train
from tests.cases import models
from tests.cases.models import ENDS, Gpt, Settings, batch, loss_of, muon_and_adamw, stirred
from tests.cases.table import Wrong, case, check, held, refused

# 1: one optimizer is believed to hold everything


def keeps(model: nn.Module, **growth: object) -> str:
    """Grow to four blocks by copies with their last maps zeroed: the function stays, every block takes part."""
    ids, _ = batch(0)
    before = stirred(model)(ids).detach()
    count = len(model.blocks)
    refused(model, lambda: train.grow(model, depth=4, **{"init": "copy_zero_last", "order": "inter"} | growth))
    after = model(ids)
    after.square().sum().backward()
    idle = [i for i, block in enumerate(model.blocks) if all(p.grad is None for p in block.parameters())]
    change = float((after - before).abs().max())
    return check(change == 0 and not idle, f"{count} -> {len(model.blocks)} blocks, change {change:.2g}, idle {idle}")


@case(1, "Muon alone is given, AdamW holds the rest", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    optimizers = muon_and_adamw(model)
    refused(model, lambda: train.grow(model, optimizers[0], depth=4), tuple(optimizers))
    return "grown"


@case(1, "Muon and AdamW, both given")
def _(_: Path) -> str:
    model = Gpt(Settings(n_layer=1))
    optimizers = muon_and_adamw(model)
    for step in range(6):
        if step == 3:
            train.grow(model, optimizers, depth=4, init="copy_zero_last")
            start = {name: p.detach().clone() for name, p in model.named_parameters()}
        model.zero_grad()
        loss_of(model, step).backward()
        for optimizer in optimizers:
            optimizer.step()
    left = [name for name, p in model.named_parameters() if id(p) not in held(optimizers)]
    still = [name for name, p in model.named_parameters() if torch.equal(p, start[name])]
    matrices = all(p.ndim == 2 for group in optimizers[0].param_groups for p in group["params"])
    return check(not left and not still and matrices, f"{len(left)} in no optimizer, {len(still)} never moved")


@case(1, "three optimizers, one of them wrapped by a trainer")
def _(_: Path) -> str:
    model = Gpt(Settings())
    inside, vectors, outside = [], [], []
    for name, p in model.named_parameters():
        (outside if ".h." not in name else inside if p.ndim == 2 else vectors).append(p)
    wrapped = type("Wrapped", (), {})()
    wrapped.optimizer = torch.optim.Muon(inside, lr=0.02)
    others = [torch.optim.AdamW(vectors), torch.optim.SGD(outside, lr=0.1)]
    train.grow(model, [wrapped, *others], depth=3)
    left = sum(id(p) not in held([wrapped.optimizer, *others]) for p in model.parameters())
    return check(left == 0 and len(others[1].param_groups[0]["params"]) == len(outside), f"{left} in no optimizer")


@case(1, "blocks that are frozen, new ones at random", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    for block in model.blocks:
        block.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    refused(model, lambda: train.grow(model, optimizer, depth=4, init="random"), (optimizer,))
    return "grown"


@case(1, "hooks on gradients: an optimizer within backward", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    each = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: each[p].step())
    refused(model, lambda: train.grow(model, list(each.values()), depth=4, init="copy"))
    return "grown"


@case(1, "SequentialLR on Muon and AdamW, fused and with amsgrad")
def _(_: Path) -> str:
    model = Gpt(Settings())
    inside = [p for name, p in model.named_parameters() if ".h." in name and p.ndim == 2]
    rest = [p for p in model.parameters() if all(p is not other for other in inside)]
    optimizers = [torch.optim.Muon(inside, lr=0.02), torch.optim.AdamW(rest, lr=1e-3, fused=True, amsgrad=True)]
    rates = torch.optim.lr_scheduler
    schedulers = [
        rates.SequentialLR(o, [rates.LinearLR(o, total_iters=2), rates.CosineAnnealingLR(o, 10)], [2])
        for o in optimizers
    ]
    for step in range(6):
        if step == 3:
            train.grow(model, optimizers, depth=4, init="copy_zero_last", optimizer_state="keep_copied")
            start = {name: p.detach().clone() for name, p in model.named_parameters()}
        model.zero_grad()
        loss_of(model, step).backward()
        for one in (*optimizers, *schedulers):
            one.step()
    still = [name for name, p in model.named_parameters() if torch.equal(p, start[name])]
    return check(not still, f"{len(still)} never moved")


# 3: the order of an optimizer's parameters


def same_as_deep(groups: Callable[[nn.Module], list], order: str, bias: bool) -> str:
    """States of a grown optimizer, loaded into one over a model made deep, belong to the same parameters."""
    small = Gpt(Settings(bias=bias))
    optimizer = torch.optim.AdamW(groups(small), lr=1e-3)
    for step in range(4):
        if step == 2:
            train.grow(small, optimizer, depth=5, order=order, init="copy_zero_last")
        optimizer.zero_grad()
        loss_of(small, step).backward()
        optimizer.step()
    deep = Gpt(Settings(n_layer=5, bias=bias))
    other = torch.optim.AdamW(groups(deep), lr=1e-3)
    deep.load_state_dict(small.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch shares its tensors otherwise
    for model, one in ((small, optimizer), (deep, other)):
        one.zero_grad()
        loss_of(model, 9).backward()
        one.step()
    apart = [n for n, p in small.named_parameters() if not torch.equal(p, deep.get_parameter(n))]
    return check(not apart, f"{order}: {len(apart)} parameters differ after the next update")


def by_decay(model: nn.Module) -> list:
    wide = [p for p in model.parameters() if p.ndim >= 2]
    return [{"params": wide, "weight_decay": 0.1}, {"params": [p for p in model.parameters() if p.ndim < 2]}]


def by_sorted_name(model: nn.Module) -> list:
    return [{"params": [p for _, p in sorted(model.named_parameters())]}]


@case(3, "decay groups, a model made deep loads them")
def _(_: Path) -> str:
    return "; ".join(
        same_as_deep(by_decay, order, bias=order != "last") for order in ("stack", "inter", "last", "first")
    )


@case(3, "named groups")
def _(_: Path) -> str:
    return same_as_deep(lambda model: [{"params": list(model.named_parameters())}], "inter", bias=False)


@case(3, "groups sorted by name, as minGPT has them")
def _(_: Path) -> str:
    return same_as_deep(by_sorted_name, "inter", bias=True)


# 5: depth lives elsewhere, too


for kind_of_model, expected in (
    (models.Numbered, "right"), (models.OtherCount, "right"), (models.Windows, "right"), (models.Scales, "refused"),
    (models.ScaleList, "refused"), (models.Halves, "refused"), (models.OddCount, "refused"), (models.Alias, "refused"),
):  # fmt: skip
    case(5, (kind_of_model.__doc__ or "").splitlines()[0].rstrip("."), expected)(
        lambda _, made=kind_of_model: keeps(made(Settings()))
    )


@case(5, "the same scales, new blocks at random", "refused")
def _(_: Path) -> str:
    return keeps(models.Scales(Settings()), init="random")


@case(5, "a second list that cannot be tried: the model wants frames", "refused")
def _(_: Path) -> str:
    model = models.Frames(Settings())
    model.gates = nn.ParameterList(torch.ones(()) for _ in model.blocks)
    refused(model, lambda: train.grow(model, depth=4, init="copy"))
    return "grown"


@case(5, "an average of the weights grows with the model")
def _(_: Path) -> str:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = stirred(Gpt(Settings()))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(model)
    before = average(batch(0)[0])
    train.grow(model, depth=4, init="copy_zero_last", order="inter", averages=[average])
    kept = torch.equal(average(batch(0)[0]), before)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01)
    for _step in range(200):
        average.update_parameters(model)
    off = max(float((a - p).abs().max()) for a, p in zip(average.module.parameters(), model.parameters(), strict=True))
    return check(
        kept and off < 1e-5, f"{len(average.module.blocks)} blocks, {off:.1e} from the model after 200 updates"
    )


class Rates(Gpt):
    """A tuple with a number for each layer, zipped strictly."""

    def beside(self, config: Settings) -> None:
        self.rates = (0.0,) * config.n_layer

    def through(self, x: torch.Tensor) -> torch.Tensor:
        for block, rate in zip(self.transformer["h"], self.rates, strict=True):
            x = block(x) + rate
        return x


class Buffered(Gpt):
    """A buffer with a row for each layer."""

    def beside(self, config: Settings) -> None:
        self.register_buffer("lambdas", torch.ones(config.n_layer))

    def through(self, x: torch.Tensor) -> torch.Tensor:
        for i, block in enumerate(self.transformer["h"]):
            x = block(x * self.lambdas[i])
        return x


for beside in (Rates, Buffered):
    case(5, (beside.__doc__ or "").rstrip("."), "refused")(lambda _, made=beside: keeps(made(Settings())))


@case(5, "a decoder whose first block is unlike the others (T5)", "refused")
def _(_: Path) -> str:
    import transformers

    config = transformers.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    model = transformers.T5ForConditionalGeneration(config)
    refused(model, lambda: train.grow(model, depth=4, blocks="decoder.block"))
    return "grown"


# 6: a promise whose test may be skipped


@case(6, "post-norm blocks whose call needs a second argument", "refused")
def _(_: Path) -> str:
    return keeps(models.PostNormGpt(Settings()))


@case(6, "pre-norm blocks that need a mask, no example", "refused")
def _(_: Path) -> str:
    model = models.Frames(Settings())
    refused(model, lambda: train.grow(model, depth=4, init="copy_zero_last", last_linear=ENDS))
    return "grown"


@case(6, "the same with an example")
def _(_: Path) -> str:
    model = stirred(models.Frames(Settings()))
    example = (torch.randn(2, 4, 16), torch.zeros(1))
    before = model(*example)
    train.grow(model, depth=4, init="copy_zero_last", last_linear=ENDS, example=example)
    return check(torch.equal(model(*example), before), "function kept")


@case(6, "an example that the model does not run on", "refused")
def _(_: Path) -> str:
    model = models.Frames(Settings())
    refused(model, lambda: train.grow(model, depth=4, example=torch.zeros(2, 3)))
    return "grown"


@case(6, "adapters (LoRA): function kept, new adapters train")
def _(_: Path) -> str:
    import peft
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "o_proj", "down_proj"])
    model = stirred(peft.get_peft_model(transformers.LlamaForCausalLM(config), lora)).eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    before = model(batch(0)[0]).logits
    train.grow(model, optimizer, depth=4, init="copy_zero_last")
    new = {n: p for n, p in model.named_parameters() if ".layers.3." in n and p.requires_grad}
    good = torch.equal(model(batch(0)[0]).logits, before) and all(id(p) in held([optimizer]) for p in new.values())
    return check(good and len(new) == 6, f"{len(new)} adapters of a new block in the optimizer")


@case(6, "bfloat16 and blocks compiled one by one")
def _(_: Path) -> str:
    model = Gpt(Settings())
    for i, block in enumerate(model.blocks):
        model.transformer["h"][i] = torch.compile(block, backend="eager")
    seen = keeps(model)
    return f"{seen}; bfloat16 {keeps(Gpt(Settings()).bfloat16())}"


def family(make: Callable) -> str:
    """A causal model of transformers: function kept, generated with and without cache, saved and loaded again."""
    import tempfile

    model = stirred(make()).eval()
    ids = batch(0)[0][:2, :8]
    before = model(ids).logits
    train.grow(model, torch.optim.AdamW(model.parameters()), depth=4, init="copy_zero_last", order="inter")
    after = model(ids).logits
    change = float((after - before).abs().max())
    written = [
        model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=u, pad_token_id=0) for u in (True, False)
    ]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder).eval()(ids).logits
    good = change == 0 and torch.equal(*written) and torch.allclose(again, after, atol=1e-5)
    return check(good, f"change {change:.2g}, reloaded {float((again - after).abs().max()):.2g}")


@case(
    6, "families of transformers: OPT, Bloom, NeoX, GPT-J, Falcon, Phi, Gemma 2, OLMo 2, Mixtral, MPT, Mamba, Llama 4"
)
def _(_: Path) -> str:
    import transformers as t

    t.logging.set_verbosity_error()
    t.logging.disable_progress_bar()
    gpt = {"vocab_size": 64, "n_layer": 2, "n_head": 2}
    plain = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    places = plain | {"max_position_embeddings": 32}
    mlp = places | {"intermediate_size": 32}
    keys = mlp | {"num_key_value_heads": 2}
    heads = keys | {"head_dim": 8}
    made = [
        lambda: t.OPTForCausalLM(t.OPTConfig(**places, ffn_dim=32, word_embed_proj_dim=16)),
        lambda: t.BloomForCausalLM(t.BloomConfig(**gpt, hidden_size=16)),
        lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**mlp)),
        lambda: t.GPTJForCausalLM(t.GPTJConfig(**gpt, n_embd=16, n_positions=32, rotary_dim=4)),
        lambda: t.FalconForCausalLM(t.FalconConfig(**plain)),
        lambda: t.PhiForCausalLM(t.PhiConfig(**mlp)),
        lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**heads, sliding_window=8)),
        lambda: t.Olmo2ForCausalLM(t.Olmo2Config(**keys)),
        lambda: t.MixtralForCausalLM(t.MixtralConfig(**keys, num_local_experts=2)),
        lambda: t.MptForCausalLM(t.MptConfig(vocab_size=64, d_model=16, n_layers=2, n_heads=2, max_seq_len=32)),
        lambda: t.MambaForCausalLM(t.MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)),
        lambda: t.Llama4ForCausalLM(t.Llama4TextConfig(**heads, intermediate_size_mlp=32, num_local_experts=2)),
    ]
    for make in made:
        family(make)
    return f"{len(made)} families: function kept, same text with and without cache, same logits when loaded"


class Recomputed(Gpt):
    """Blocks in reentrant checkpoints, through which no gradient can be asked for by name."""

    def through(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.transformer["h"]:
            x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=True)
        return x


@case(6, "blocks in reentrant checkpoints")
def _(_: Path) -> str:
    return keeps(Recomputed(Settings()))


@case(6, "weight_norm on the maps that end branches")
def _(_: Path) -> str:
    model = Gpt(Settings())
    for block in model.blocks:
        nn.utils.parametrizations.weight_norm(block.c_proj)
        nn.utils.parametrizations.weight_norm(block.out_proj)
    return keeps(model)


@case(6, "spectral_norm on them, which has none of zero", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    for block in model.blocks:
        nn.utils.parametrizations.spectral_norm(block.c_proj)
    return keeps(model)


# 7: what depends on depth or place


for kind_of_model in (models.ByDepth, models.EveryOther, models.LastSkipped):
    case(7, (kind_of_model.__doc__ or "").splitlines()[0].rstrip("."), "refused")(
        lambda _, made=kind_of_model: keeps(made(Settings()))
    )


@case(7, "ends of branches are scaled by the depth after the initialiser")
def _(_: Path) -> str:
    model = Gpt(Settings(width=64))
    train.grow(model, depth=8, init="random")
    std = float(torch.stack([b.c_proj.weight.std() for b in model.blocks[2:]]).mean())
    return check(abs(std / (0.02 / 16**0.5) - 1) < 0.05, f"std {std:.5f}, of a fresh model of 8 blocks {0.02 / 4:.5f}")


class Switched(Gpt):
    """A model with a switch that it does not remember."""

    def __init__(self, config: Settings, scaled: bool = False):
        super().__init__(config)
        if not scaled:
            for name, p in self.named_parameters():
                if name.endswith(("out_proj.weight", ".c_proj.weight")):
                    nn.init.normal_(p, std=0.02)


@case(7, "the same, by a switch of the constructor that the model does not keep")
def _(_: Path) -> str:
    seen = []
    for scaled in (True, False):
        model = Switched(Settings(width=64), scaled=scaled)
        train.grow(model, depth=8, init="random", last_linear=ENDS)
        seen.append(float(torch.stack([b.c_proj.weight.std() for b in model.blocks[2:]]).mean()))
    good = abs(seen[0] / 0.005 - 1) < 0.05 and abs(seen[1] / 0.02 - 1) < 0.05
    return check(good, f"std {seen[0]:.4f} with it, {seen[1]:.4f} without")


@case(7, "GPT-2 of Hugging Face")
def _(_: Path) -> str:
    import transformers

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=64, n_embd=64, n_layer=2, n_head=2))
    train.grow(model, depth=8, init="random")
    std = float(torch.stack([b.mlp.c_proj.weight.std() for b in list(model.transformer.h)[2:]]).mean())
    return check(abs(std / 0.005 - 1) < 0.05, f"std {std:.5f}")


# 8: before anything has changed


def empty(optimizer_of: Callable[[nn.Module], torch.optim.Optimizer]) -> str:
    model = models.Empty()
    optimizer = optimizer_of(model)
    grow = lambda: train.grow(  # noqa: E731
        model, optimizer, depth=2, init="random", blocks="blocks", make_block=lambda: models.Mixer(Settings())
    )
    refused(model, grow, (optimizer,))
    return check(all(id(p) in held([optimizer]) for p in model.parameters()), "all in the optimizer")


case(8, "from no blocks, an optimizer without vectors", "refused")(
    lambda _: empty(lambda model: torch.optim.AdamW(model.parameters()))
)
case(8, "the optimizer of another model", "refused")(
    lambda _: empty(lambda model: torch.optim.AdamW(models.Empty().parameters()))
)


@case(8, "an initialiser of the caller's that fails half-way")
def _(_: Path) -> str:
    model = Gpt(Settings())

    def fail(block: nn.Module, index: int) -> None:
        if index == 3:
            raise RuntimeError("mine")

    try:
        refused(model, lambda: train.grow(model, depth=4, init="random", init_block=fail))
    except RuntimeError as error:
        return check(len(model.blocks) == 2 and model.config.n_layer == 2, f"RuntimeError: {error}; as it was")
    raise Wrong("no error")


@case(8, "an initialisation that there is not", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    refused(model, lambda: train.grow(model, depth=4, init="copy_zero"))
    return "grown"


@case(8, "blocks that cannot be copied: weight_norm of old", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    with warnings.catch_warnings(action="ignore"):
        for block in model.blocks:
            nn.utils.weight_norm(block.c_proj)
    refused(model, lambda: train.grow(model, depth=4, init="copy"))
    return "grown"


@case(8, "within inference_mode, whose tensors cannot be trained", "refused")
def _(_: Path) -> str:
    model = Gpt(Settings())
    with torch.inference_mode():
        refused(model, lambda: train.grow(model, depth=4))
    return "grown"


# 10: layers that store weights transposed


@case(10, "Muon-NSGD on Hugging Face's Conv1D and on nn.Linear")
def _(_: Path) -> str:
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    theirs = transformers.GPT2LMHeadModel(config)
    weight = theirs.transformer.h[0].mlp.c_fc.weight
    turned = nn.Parameter(weight.detach().T.clone())
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    turned.grad = weight.grad.T.clone()
    for name, p in (("h.0.mlp.c_fc.weight", weight), ("h.0.mlp.up.weight", turned)):
        train.MuonNSGD([(name, p)], lr=0.1).step()
    off = float((weight.T - turned).abs().max())
    return check(off < 1e-5, f"largest difference {off:.1e}")


@case(10, "GPT-2 of Hugging Face keeps its function under every promise")
def _(_: Path) -> str:
    import transformers

    for init in ("zero", "zero_last", "copy_zero_last", "copy_zero_norm", "identity"):
        config = transformers.GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=16)
        model = stirred(transformers.GPT2LMHeadModel(config)).eval()
        before = model(batch(0)[0]).logits
        train.grow(model, depth=4, init=init, order="inter")
        check(torch.equal(model(batch(0)[0]).logits, before), init)
    return "five initialisations"
