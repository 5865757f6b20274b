import pytest
import torch


@pytest.fixture
def image():
    """One image of 224x224, as the models take it."""
    return torch.rand(1, 3, 224, 224)
