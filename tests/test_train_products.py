"""Products by oneDNN are float32 ones, and the permission to make them ends with them."""

import pytest
import torch
from torch import nn

from latebloom.train.model import products
from latebloom.train.model.products import ONEDNN, Linear, takes_onednn

MATMUL = torch.backends.mkldnn.matmul


def test_values_and_gradients_are_those_of_torchs_linear():
    g = torch.Generator().manual_seed(0)
    ours, torchs = Linear(96, 130), nn.Linear(96, 130).double()
    torchs.load_state_dict(ours.state_dict())
    x, direction = torch.randn(3, 50, 96, generator=g), torch.randn(3, 50, 130, generator=g)
    results = []
    for layer, dtype in ((ours, torch.float32), (torchs, torch.float64)):
        given = x.to(dtype).requires_grad_()
        y = layer(given)
        results.append([y, *torch.autograd.grad(y, [given, *layer.parameters()], direction.to(dtype))])
    for a, b in zip(*results, strict=True):  # a few roundings of sums of 150 terms
        torch.testing.assert_close(a.double(), b, rtol=0, atol=2e-6 * float(b.detach().abs().max()) + 1e-6)
    assert MATMUL.fp32_precision == "none"


def test_the_permission_ends_with_the_product():
    def fails():
        with ONEDNN:
            assert MATMUL.fp32_precision == "bf16"
            torch.zeros(2, 3) @ torch.zeros(2, 3)

    with pytest.raises(RuntimeError):
        fails()
    assert MATMUL.fp32_precision == "none"


def test_who_chose_a_precision_keeps_it():
    x = torch.zeros(2, 2)
    assert takes_onednn(x) == products.STAYS_FLOAT32
    assert not takes_onednn(x.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not takes_onednn(x)
    MATMUL.fp32_precision = "ieee"
    try:
        assert not takes_onednn(x)
        products._stays_float32()  # as when this is imported after torch.set_float32_matmul_precision
        assert MATMUL.fp32_precision == "ieee"
    finally:
        MATMUL.fp32_precision = "none"


def test_products_that_lose_digits_are_noticed(monkeypatch):
    """What a processor with AMX units does with the permission, done by hand."""
    assert products._stays_float32()
    real = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: real(a.bfloat16().float(), b.bfloat16().float()))
    assert not products._stays_float32()
