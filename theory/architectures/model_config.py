"""The settings of a model: a preset, a file of one's own, or its sizes; what ``--model`` takes, everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from latebloom.theory.architectures.family import Size
from latebloom.theory.architectures.hugging_face import sizes_of
from latebloom.theory.architectures.llama import BlockVariant
from latebloom.theory.architectures.presets import PRESETS, preset
from latebloom.theory.architectures.shape import GPT2Shape
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.spec import Positive, Spec, from_plain

__all__ = ["ModelConfig", "model_of"]

FILES = (".toml", ".yaml", ".yml", ".json")
NEEDED = ("width", "heads", "context", "vocab_size", "depth")  # of a model that is no variant of a preset
OF_SHAPE = ("width", "heads", "context", "vocab_size", "tied_head")
OF_LLAMA = ("kv_heads", "hidden", "rope_theta", "norm_eps", "qk_norm")
OF_BLOCKS = (
    "width",
    "heads",
    "context",
    "tied_head",
    "blocks",
    *OF_LLAMA,
)  # changed, it is another model than the preset's


class ModelConfig(Spec, frozen=True, kw_only=True):
    """A model: a preset, a file of these settings, its sizes, or one of the former with some sizes of one's own.

    Attributes:
        model: Preset; TOML, YAML or JSON file of width ... qk_norm; Hugging Face's config.json. None: the sizes below.
        width: Of the residual stream. None: the model's.
        heads: Of each attention. None: the model's.
        context: Tokens of a sequence. None: the model's.
        vocab_size: Rows of the token table. None: the model's; of the data where they are at hand.
        depth: Blocks after the expansion. None: the model's.
        tied_head: Whether the token table is the head as well. None: the model's, else it is.
        blocks: Block kind: gpt2, or llama with RMSNorm, rotary positions and SwiGLU. None: the model's, else gpt2.
        kv_heads: Heads of key and value (llama). None: the model's, else as many as heads.
        hidden: Width inside the SwiGLU (llama). None: the model's, else 8/3 of the width, up to a multiple of 8.
        rope_theta: Base of the rotary frequencies (llama). None: the model's, else 10000.
        norm_eps: Epsilon of every RMSNorm (llama). None: the model's, else 1e-6.
        qk_norm: RMSNorm on each query and key head, as Qwen3 (llama). None: the model's, else none.
    """

    model: Annotated[str, Meta(min_length=1)] | None = None
    width: Size | None = None
    heads: Size | None = None
    context: Size | None = None
    vocab_size: Size | None = None
    depth: int | None = None
    tied_head: bool | None = None
    blocks: Literal["gpt2", "llama"] | None = None
    kv_heads: Size | None = None
    hidden: Size | None = None
    rope_theta: Positive | None = None
    norm_eps: Positive | None = None
    qk_norm: bool | None = None


def model_of(config: ModelConfig, *, vocab_size: int | None = None) -> tuple[GPT2Shape, int]:
    """Shape and full depth of the model that ``config`` names or declares.

    >>> shape, depth = model_of(ModelConfig(width=64, heads=4, context=32, vocab_size=256, depth=3))
    >>> shape.name, shape.width, depth
    ('gpt2-w64', 64, 3)

    Args:
        config: A preset or a file, whose sizes those given beside it replace; or every size.
        vocab_size: Of the data, where they are known: holds unless ``config`` itself says one.

    Raises:
        InputError: naming the preset, the file or the size that is missing, unknown or does not fit.
    """
    own = _declared(config)
    if vocab_size is not None and config.vocab_size is None:
        own = own.replace(vocab_size=vocab_size)
    shape, depth = preset(own.model) if own.model is not None else (None, None)
    depth = own.depth if own.depth is not None else depth
    sizes = {name: getattr(own, name) for name in OF_SHAPE if getattr(own, name) is not None}
    if shape is None or depth is None:
        missing = [name for name in NEEDED if getattr(own, name) is None]
        if missing == list(NEEDED) and config.model is None:
            fix = "give a preset, a file, or --width, --heads, --context, --vocab-size and --depth"
            raise InputError("--model", None, "is required", fix)
        if missing:
            name = missing[0].replace("_", "-")
            rule = "is required: a model that is no variant of a preset needs all its sizes"
            raise InputError(f"--{name}", None, rule, f"give {', '.join('--' + m.replace('_', '-') for m in missing)}")
    assert depth is not None
    block = _block(own, shape)
    name = _name(config, own, shape)
    if shape is None:
        return GPT2Shape(name=name, block=block, **sizes), depth
    return shape.replace(name=name, block=block, **sizes), depth


def _declared(config: ModelConfig) -> ModelConfig:
    """``config`` with the file that it names read: sizes given beside the file win over the file's."""
    if config.model is None or Path(config.model).suffix not in FILES:
        if config.model is not None and config.model not in PRESETS:
            fix = nearest(config.model, PRESETS) + " Or name a TOML, YAML or JSON file of the model's sizes"
            raise InputError("--model", config.model, "is not a known preset", fix)
        return config
    from latebloom.theory.options import read_config

    path = Path(config.model)
    try:
        plain = read_config(path)
        read = from_plain(sizes_of(plain) if "model_type" in plain else plain, ModelConfig)
    except InputError as error:
        if error.name == "--config":
            raise InputError(
                "--model", error.value, error.rule, "name a preset or a file of the model's sizes"
            ) from None
        inside = InputError(error.name.removeprefix("$."), error.value, error.rule, error.fix)
        raise (error if str(path) in error.name else inside.within(path)) from None
    if read.model is not None and read.model not in PRESETS:
        raise InputError("model", read.model, "is not a known preset", nearest(read.model, PRESETS)).within(path)
    given = {name: getattr(config, name) for name in ModelConfig.__struct_fields__ if name != "model"}
    return read.replace(**{name: value for name, value in given.items() if value is not None})


def _block(own: ModelConfig, shape: GPT2Shape | None) -> BlockVariant | None:
    """Settings of a LLAMA block; None for GPT-2's."""
    of_llama = {name: getattr(own, name) for name in OF_LLAMA if getattr(own, name) is not None}
    before = None if shape is None else shape.block
    kind = own.blocks or ("gpt2" if before is None else "llama")
    if kind == "gpt2":
        for name, value in of_llama.items():
            option = f"--{name.replace('_', '-')}"
            raise InputError(option, value, "is a setting of llama blocks", "leave it out, or give --blocks llama")
        return None
    if before is not None:
        return before.replace(**of_llama)
    width = own.width if own.width is not None else shape.width if shape is not None else 0
    heads = own.heads if own.heads is not None else shape.heads if shape is not None else 0
    return BlockVariant(**({"kv_heads": heads, "hidden": -(-8 * width // 24) * 8} | of_llama))


def _name(config: ModelConfig, own: ModelConfig, shape: GPT2Shape | None) -> str:
    """The preset's where only depth and vocabulary are one's own; else the file's, else block kind and width."""
    if config.model is not None and Path(config.model).suffix in FILES:
        path = Path(config.model)
        return path.parent.name if path.name == "config.json" and path.parent.name else path.stem
    if shape is not None and all(getattr(own, name) is None for name in OF_BLOCKS):
        return shape.name
    width = own.width if own.width is not None else shape.width if shape is not None else 0
    return f"{shape.name if shape is not None else own.blocks or 'gpt2'}-w{width}"
