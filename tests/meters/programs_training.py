"""Training steps: layers, optimisers, attention, recurrent layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

from .programs import gradients, program, small_model


@program
def training_step_with_dropout() -> Any:
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(torch.randn(4, 5)), torch.randint(3, (4,)))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss)
    return losses, model.state_dict(), gradients(model), optimizer.state_dict()


@program
def optimizers() -> Any:
    results = []
    for kind, settings in (
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "lr": 0.1}),
        (torch.optim.AdamW, {"foreach": True}),
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.RMSprop, {"centered": True}),
        (torch.optim.Adagrad, {}),
        (torch.optim.NAdam, {}),
        (torch.optim.ASGD, {}),
        (torch.optim.Rprop, {}),
    ):
        model = nn.Linear(4, 3)
        optimizer = kind(model.parameters(), **settings)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(2):
            model(torch.randn(2, 4)).square().sum().backward()
            optimizer.step()
            scheduler.step()
        results.append(model.state_dict())
    return results


@program
def lbfgs_with_a_closure() -> Any:
    x = torch.randn(6, requires_grad=True)
    optimizer = torch.optim.LBFGS([x], max_iter=5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (x.cos() * x).sum()
        loss.backward()
        return loss

    return optimizer.step(closure), x


@program
def convolutions_and_norms_in_training() -> Any:
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.GELU(), nn.GroupNorm(2, 6)),
        *(nn.MaxPool2d(2), nn.ConvTranspose2d(6, 4, 2), nn.InstanceNorm2d(4), nn.SiLU()),
        *(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 2)),
    )
    x = torch.randn(3, 3, 9, 9, requires_grad=True)
    out = model(x)
    out.square().mean().backward()
    return out, x.grad, gradients(model), dict(model.named_buffers())


@program
def recurrent_layers_in_training() -> Any:
    results = []
    for layer in (
        nn.LSTM(4, 5, 2, bidirectional=True, dropout=0.2),
        nn.GRU(4, 5, batch_first=True),
        nn.RNN(4, 5),
    ):
        x = torch.randn(6, 3, 4, requires_grad=True)
        out, state = layer(x)
        out.sum().backward()
        results.append((out, state, x.grad, gradients(layer)))
    return results


@program
def packed_sequences() -> Any:
    x = rnn.pad_sequence([torch.randn(n, 4) for n in (5, 3, 1)]).requires_grad_()
    packed = rnn.pack_padded_sequence(x, torch.tensor([5, 3, 1]))
    lstm = nn.LSTM(4, 3)
    out, lengths = rnn.pad_packed_sequence(lstm(packed)[0])
    out.sum().backward()
    return out, lengths, x.grad, gradients(lstm)


@program
def transformer_in_training_and_evaluation() -> Any:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2)
    x = torch.randn(3, 5, 8)
    padding = torch.tensor([[0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [0] * 5]).bool()
    trained = encoder(x)
    trained.square().sum().backward()
    encoder.eval()
    with torch.no_grad():
        fast = encoder(x)
        padded = encoder(x, src_key_padding_mask=padding)
    with torch.inference_mode():
        inferred = encoder(x).clone()
    return trained, gradients(encoder), fast, padded, inferred


@program
def attention_of_every_kind() -> Any:
    q, k, v = (torch.randn(2, 4, 6, 8, requires_grad=True) for _ in range(3))
    mask = torch.randn(6, 6, requires_grad=True)
    attend = functional.scaled_dot_product_attention
    results = [
        attend(q, k, v),
        attend(q, k, v, is_causal=True),
        attend(q, k, v, attn_mask=mask),
        attend(q, k, v, attn_mask=torch.ones(6, 6).tril().bool()),
        attend(q, k, v, dropout_p=0.5),
        attend(q, k[:, :2], v[:, :2], enable_gqa=True),
        attend(q[0], k[0], v[0, ..., :3]),
    ]
    torch.stack([result.sum() for result in results]).sum().backward()
    return results, q.grad, k.grad, v.grad, mask.grad
