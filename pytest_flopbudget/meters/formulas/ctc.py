"""Connectionist temporal classification: the loss of an unaligned sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula

_Lengths: TypeAlias = Sequence[int] | Tensor

_TRANSITION: Final = 13
"""FLOPs of `log(exp(a) + exp(b) + exp(c)) + d`: two comparisons for the greatest of three,
three differences, three exponentials, two adds, a logarithm and two adds."""
_LAST: Final = 9
"""FLOPs of `-log(exp(a) + exp(b))`: a comparison, two differences, two exponentials, an add,
a logarithm, an add and a negation."""
_GATHERING: Final = 9
"""FLOPs of `log(exp(a) + exp(b + c))`: an add, then as above without the negation."""
_PER_CLASS: Final = 6
"""FLOPs of `(exp(p) - exp(a + l - p)) * grad`: two exponentials and four operations."""


@dataclass(frozen=True, slots=True)
class _Lattice:
    """The states that a batch passes through: 2 * labels + 1 at each step of a sample."""

    samples: int
    steps: int
    """Of all samples together."""
    states: int
    """Of all samples at all steps."""
    first_states: int
    """Of all samples at one step."""
    classes: int

    @classmethod
    def of(cls, log_probs: Tensor, targets: Tensor, inputs: _Lengths, labels: _Lengths) -> _Lattice:
        samples = log_probs.shape[1] if log_probs.dim() > 2 else 1  # noqa: PLR2004 - [t, n, c]
        if isinstance(inputs, Tensor) or isinstance(labels, Tensor):
            longest = log_probs.shape[0]
            steps = samples * longest
            first_states = 2 * targets.numel() + samples
            states = longest * first_states
        else:
            steps = sum(inputs)
            widths = [2 * count + 1 for count in labels]
            first_states = sum(widths)
            states = sum(length * width for length, width in zip(inputs, widths, strict=True))
        return cls(samples, steps, states, first_states, log_probs.shape[-1])

    @property
    def loss(self) -> int:
        """FLOPs of the forward recursion and of what it ends in."""
        return self._recursion + _LAST * self.samples

    @property
    def gradient(self) -> int:
        """FLOPs of the backward recursion, and of the gradient from both."""
        return self._recursion + _GATHERING * self.states + _PER_CLASS * self.steps * self.classes

    @property
    def _recursion(self) -> int:
        return _TRANSITION * max(0, self.states - self.first_states)


@formula("_ctc_loss")
def ctc_loss(
    log_probs: Tensor, targets: Tensor, inputs: _Lengths, labels: _Lengths, *_args: Any, out: Any
) -> int:
    """FLOPs of a CTC loss.

    log_probs: [t, n, c], targets: [n, s], or all in a row -> [n], and [n, t, 2s + 1]
    Counts, for a sample of t steps and s labels, 13*(t - 1)*(2s + 1) for the recursion,
    the logarithm of a sum of three exponentials in each state, and 9 for the loss.
    Source: Graves et al., Connectionist Temporal Classification (2006), with logarithms as
    torch's kernel has them. Lengths given as numbers are counted as they are; given as
    tensors, every sample counts as long as the longest.
    """
    return _Lattice.of(log_probs, targets, inputs, labels).loss


@formula("_ctc_loss_backward")
def ctc_loss_backward(
    grad: Tensor,
    log_probs: Tensor,
    targets: Tensor,
    inputs: _Lengths,
    labels: _Lengths,
    *_args: Any,
    out: Tensor,
) -> int:
    """FLOPs of the backward of a CTC loss.

    log_probs: [t, n, c], targets: [n, s], or all in a row -> out: the shape of log_probs
    Counts, for a sample of t steps and s labels, 13*(t - 1)*(2s + 1) for the recursion from
    the end, 9*t*(2s + 1) for summing both recursions up by class, and 6*t*c for the gradient.
    Source: Graves et al., Connectionist Temporal Classification (2006), with logarithms as
    torch's kernel has them. Lengths given as tensors: as forward.
    """
    return _Lattice.of(log_probs, targets, inputs, labels).gradient


@formula("_cudnn_ctc_loss", "miopen_ctc_loss")
def ctc_loss_with_gradient(
    log_probs: Tensor, targets: Tensor, inputs: _Lengths, labels: _Lengths, *_args: Any, out: Any
) -> int:
    """FLOPs of a CTC loss and its gradient, which these libraries compute together.

    log_probs: [t, n, c], targets: all in a row -> [n], and the shape of log_probs
    Counts the forward and the backward of `_ctc_loss`, but t*c less for each sample: the
    multiply by grad comes in an operator of its own.
    Source: Graves et al., Connectionist Temporal Classification (2006).
    """
    lattice = _Lattice.of(log_probs, targets, inputs, labels)
    return lattice.loss + lattice.gradient - lattice.steps * lattice.classes
