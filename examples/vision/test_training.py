"""One step of training: forward, loss, backward, optimiser."""

import models
import pytest
import torch


def train_step(model, optimizer, images, labels):
    loss = model(images, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss


@pytest.mark.flop_budget("resnet18-training-step")
def test_training_step(flopbudget):
    model = models.resnet18().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images = torch.rand(4, 3, 224, 224)
    labels = torch.tensor([0, 1, 2, 3])
    loss = flopbudget(train_step, model, optimizer, images, labels)
    assert loss.isfinite()
