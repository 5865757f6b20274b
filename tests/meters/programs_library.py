"""The rest of the library: threads, random numbers, data, losses, modes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, stateless
from torch.utils.data import DataLoader, TensorDataset

from .programs import gradients, program


@program
def threads() -> Any:
    a, b = torch.randn(4, 5), torch.randn(5, 6)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(a @ b))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(2) as pool:
        results += list(pool.map(torch.mm, [a, a * 2], [b, b]))
    future = torch.jit.fork(torch.mm, a, b)
    return results, torch.jit.wait(future), threading.active_count()


@program
def backward_in_a_thread() -> Any:
    x = torch.randn(4, requires_grad=True)
    y = x.exp().sum()
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join()
    return x.grad


@program
def distributions() -> Any:
    d = torch.distributions
    mean = torch.zeros(3, requires_grad=True)
    sample = d.Normal(mean, torch.ones(3)).rsample()
    sample.sum().backward()
    return (
        *(sample, mean.grad, d.Categorical(torch.ones(4)).sample((5,))),
        *(d.Dirichlet(torch.ones(3)).sample(), d.Gamma(2.0, 1.0).sample((3,))),
        *(d.Beta(0.5, 0.5).rsample((2,)), d.Poisson(3.0).sample((4,)), d.Bernoulli(0.3).sample()),
        *(d.MultivariateNormal(torch.zeros(2), torch.eye(2)).sample(), d.Uniform(0, 1).sample()),
        *(
            d.Binomial(5, 0.5).sample((3,)),
            d.Laplace(0.0, 1.0).sample(),
            d.VonMises(0.0, 1.0).sample(),
        ),
        d.kl_divergence(d.Normal(0.0, 1.0), d.Normal(1.0, 2.0)),
        d.Normal(0.0, 1.0).log_prob(torch.tensor(0.5)),
    )


@program
def random_numbers_of_every_kind() -> Any:
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        forked = torch.rand(2)
    return (
        *(torch.rand(3), torch.randn(3), torch.randint(9, (3,)), torch.randperm(5), forked),
        *(torch.bernoulli(torch.full((4,), 0.5)), torch.multinomial(torch.ones(4), 2)),
        *(
            torch.normal(torch.zeros(3), 1.0),
            torch.empty(3).exponential_(),
            torch.rand_like(forked),
        ),
        *(torch.rand(2, generator=generator), generator.get_state()),
        *(torch.empty(3).cauchy_(), torch.empty(3).log_normal_(), torch.empty(3).geometric_(0.5)),
        *(
            functional.gumbel_softmax(torch.ones(3)),
            functional.rrelu(torch.randn(5), training=True),
        ),
        functional.alpha_dropout(torch.ones(4), 0.5, True),
    )


@program
def data_loading() -> Any:
    data = TensorDataset(torch.arange(10.0), torch.arange(10))
    return list(DataLoader(data, batch_size=3, shuffle=True, num_workers=0))


@program
def parametrizations_of_weights() -> Any:
    results = []
    for parametrization in (
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ):
        layer = parametrization(nn.Linear(4, 4))
        with parametrize.cached():
            layer(layer(torch.randn(2, 4))).sum().backward()
        results.append((layer.weight, gradients(layer)))
    return results


@program
def pruned_and_lazy_modules() -> Any:
    from torch.nn.utils import prune

    layer = nn.Linear(4, 4)
    prune.random_unstructured(layer, "weight", 0.5)
    lazy = nn.Sequential(nn.LazyConv2d(3, 2), nn.Flatten(), nn.LazyLinear(2))
    return layer(torch.randn(2, 4)), lazy(torch.randn(2, 3, 5, 5)), type(lazy[0]).__name__


@program
def lazy_norms() -> Any:
    norm = nn.LazyBatchNorm2d()
    return norm(torch.randn(2, 3, 5, 5)), type(norm).__name__, norm.state_dict()


@program
def stateless_calls() -> Any:
    model = nn.Linear(3, 2)
    x = torch.randn(4, 3)
    with stateless._reparametrize_module(model, {"weight": torch.ones(2, 3)}):
        inside = model(x)
    return inside, model(x), functional_call(model, {"bias": torch.zeros(2)}, x)


@program
def averaged_models() -> Any:
    model = nn.Linear(3, 2)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    averaged.update_parameters(model)
    return averaged(torch.randn(2, 3)), averaged.state_dict()


@program
def sorting_and_indexing() -> Any:
    x = torch.randn(5, 6, requires_grad=True)
    values, places = x.sort(1)
    values[:, 0].sum().backward()
    y = x.detach()
    return (
        *(values, places, x.grad, *y.topk(2), y.unique(return_counts=True), y.argsort(0)),
        *(y[y > 0], y.nonzero(), torch.where(y > 0, y, 0), y.gather(1, places), y.take(places)),
        *(y.kthvalue(2), y.median(1), y.mode(1), y.histc(4), torch.bincount(places.view(-1))),
        *(
            y.cummax(1),
            y.quantile(0.5),
            torch.searchsorted(y.sort(1)[0], y),
            y.index_add(0, places[0, :5] % 5, y),
        ),
        *(y.scatter_reduce(0, places % 5, y, "amax"), y.unfold(1, 2, 2), y.roll(1), y.rot90()),
    )


@program
def losses() -> Any:
    x, y = torch.randn(4, 3, requires_grad=True), torch.rand(4, 3)
    labels = torch.tensor([0, 2, 1, 0])
    total = [
        functional.mse_loss(x, y),
        functional.l1_loss(x, y),
        functional.smooth_l1_loss(x, y),
        functional.huber_loss(x, y),
        functional.binary_cross_entropy_with_logits(x, y),
        functional.binary_cross_entropy(x.sigmoid(), y),
        functional.kl_div(x.log_softmax(1), y),
        functional.cross_entropy(x, labels, label_smoothing=0.1),
        functional.multi_margin_loss(x, labels),
        functional.triplet_margin_loss(x, y, y + 1),
        functional.cosine_embedding_loss(x, y, torch.ones(4)),
        functional.ctc_loss(
            torch.randn(6, 2, 4).log_softmax(2),
            torch.tensor([[1, 2], [3, 1]]),
            torch.tensor([6, 6]),
            torch.tensor([2, 2]),
        ),
    ]
    sum(total).backward()
    return total, x.grad


@program
def resampling() -> Any:
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    results = [
        functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        functional.interpolate(x, size=4, mode="area"),
        functional.interpolate(x, scale_factor=2, mode="bicubic"),
        functional.grid_sample(x, torch.rand(1, 3, 3, 2), align_corners=False),
        functional.pad(x, (1, 1, 1, 1), mode="reflect"),
        functional.unfold(x, 2),
        functional.fold(functional.unfold(x, 2, stride=2), (6, 6), 2, stride=2),
        functional.pixel_shuffle(x.repeat(1, 2, 1, 1), 2),
        functional.fractional_max_pool2d(x, 2, output_size=3),
        functional.lp_pool2d(x, 2.0, 2),
        functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2),
        functional.local_response_norm(x, 2),
        functional.embedding_bag(torch.tensor([[0, 1], [2, 3]]), x[0, 0]),
    ]
    torch.stack([result.sum() for result in results]).sum().backward()
    return results, x.grad


@program
def generators_and_weak_references() -> Any:
    def steps() -> Iterator[Tensor]:
        x = torch.ones(2)
        for _ in range(3):
            x = x * 2
            yield x

    freed = []
    x = torch.randn(1000)
    weakref.finalize(x, freed.append, "freed")
    del x
    return list(steps()), freed


@program
def storages_are_freed_as_ever() -> Any:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    seen: list[Any] = []
    for layer in model:
        layer.register_forward_hook(lambda m, a, out: seen.append(weakref.ref(out)) or None)
    with torch.no_grad():
        out = model(torch.randn(2, 4))
    return out, [reference() is None for reference in seen]


@program
def grad_modes() -> Any:
    x = torch.randn(3, requires_grad=True)
    with torch.inference_mode():
        inferred = x * 2
        flag = (inferred.is_inference(), inferred.requires_grad)
    with torch.no_grad(), torch.enable_grad():
        enabled = (x * 2).requires_grad
    with torch.set_grad_enabled(False):
        disabled = (x * 2).requires_grad
    return inferred.clone(), flag, enabled, disabled, torch.is_grad_enabled()


@program
def deterministic_algorithms() -> Any:
    torch.use_deterministic_algorithms(True)
    try:
        filled = torch.empty(3)  # filled with NaN in this mode
        x = torch.zeros(4).index_put_((torch.tensor([1, 1]),), torch.ones(2), accumulate=True)
        return filled, x, torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@program
def default_types() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return torch.randn(3) @ torch.randn(3), torch.tensor(1.5), torch.arange(0, 1, 0.3)
    finally:
        torch.set_default_dtype(before)


@program
def printing_and_conversion() -> Any:
    x = torch.randn(2, 2)
    return (
        repr(x),
        str(x.requires_grad_()),
        f"{x[0, 0].item():.3f}",
        int(torch.tensor(3)),
        bool(x.sum() > 0),
    )


@program
def named_and_structured_results() -> Any:
    x = torch.randn(3, 4)
    named = x.max(1)
    return (
        type(named).__name__,
        named.values,
        torch.aminmax(x),
        torch.frexp(x),
        torch.svd_lowrank(x),
    )
