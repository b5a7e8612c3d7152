"""What each tensor of a model is: as its family states it, or for anyone's model as its axes and name suggest."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor, nn

from latebloom.theory.architectures.shape import GPT2Shape, tensor_of
from latebloom.theory.architectures.tensors import MATRIX_KINDS, Kind, TensorSpec
from latebloom.theory.errors import InputError

__all__ = ["Describe", "describe", "inferred_tensor", "is_vector", "matrices_of"]

# How many times wider than high Hugging Face's Conv1D stores a map of this name; nn.Linear stores it the other way.
CONV1D = {"attn.c_attn.weight": 3, "mlp.c_fc.weight": 4, "mlp.c_proj.weight": 0.25}

Describe = Callable[[str, Tensor], TensorSpec]  # of a parameter's name in the model and the parameter


def describe(model: nn.Module) -> Describe:
    """What says of each parameter of ``model`` what it is.

    Args:
        model: A :class:`latebloom.train.model.transformer.GPT2`, whose family states its tensors, or anyone's model.

    Returns:
        A function of a parameter's name and the parameter; for a GPT2 it refuses names that the family does not state,
        for another model what :func:`inferred_tensor` refuses.
    """
    shape = getattr(model, "shape", None)
    if not isinstance(shape, GPT2Shape):
        return inferred_tensor
    return functools.partial(_stated_tensor, shape)


def is_vector(described: Describe, name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a gain, a bias or another vector.

    For anyone's model this can be told where :func:`inferred_tensor` refuses: what has more than two axes is none.

    Args:
        described: Of the model, from :func:`describe`.
        name: Of the parameter in the model.
        parameter: The tensor.
    """
    if described is inferred_tensor and parameter.ndim > 2:
        return False
    return described(name, parameter).kind not in MATRIX_KINDS


def matrices_of(tensor: Tensor, count: int, *, transposed: bool = False) -> tuple[Tensor, ...]:
    """Views of the matrices that a tensor holds, side by side along its first axis or stacked.

    Args:
        tensor: (rows, columns), (count rows, columns) or (count, rows, columns); transposed (columns, count rows).
        count: :attr:`latebloom.theory.architectures.tensors.TensorSpec.matrices` of it.
        transposed: :attr:`latebloom.theory.architectures.tensors.TensorSpec.transposed` of it.
    """
    if transposed:
        return tensor.T.chunk(count)
    return tensor.unbind() if tensor.ndim == 3 else tensor.chunk(count)


def _stated_tensor(shape: GPT2Shape, name: str, parameter: Tensor) -> TensorSpec:
    return tensor_of(shape, name)


def inferred_tensor(name: str, parameter: Tensor) -> TensorSpec:
    """A tensor of anyone's model: with two axes a hidden matrix, three of them if its name ends in ``qkv.weight``; with
    fewer axes a vector. Maps of GPT-2's names are stored transposed (Hugging Face's Conv1D) if they are as wide as they
    should be high.

    Args:
        name: Of the parameter.
        parameter: The tensor.

    Raises:
        InputError: if it has more than two axes: stacked matrices, a convolution or a table cannot be told apart.
    """
    if parameter.ndim > 2:
        rule = f"has {parameter.ndim} axes: whether it is a stack of matrices is not known"
        raise InputError("parameter", name, rule, "say what it is, by describe=...")
    matrices = 3 if name.endswith("qkv.weight") else 1
    kind: Kind = "hidden" if parameter.ndim == 2 else "vector"
    transposed = False
    for end, times in CONV1D.items() if parameter.ndim == 2 else ():
        if name.endswith(end) and parameter.shape[1] == times * parameter.shape[0]:
            transposed, matrices = True, 3 if "c_attn" in end else 1
    return TensorSpec(name=name, shape=tuple(parameter.shape), kind=kind, matrices=matrices, transposed=transposed)
