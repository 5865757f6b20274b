"""Fourier transforms against 5 N log2 N."""

from __future__ import annotations

import math

import pytest
import torch

from pytest_flopbudget import FlopCounter, measure

MODES = (torch.no_grad, torch.inference_mode, torch.enable_grad)


def nominal(numel, points, times=5.0):
    """The transform of `points` numbers over all of `numel`, in floating point."""
    return math.floor(times * numel * math.log2(points))


@pytest.mark.parametrize("mode", MODES)
def test_a_transform_of_1024_complex_numbers_is_the_published_51200(mode):
    x = torch.randn(1024, dtype=torch.complex64)
    with mode():
        m = measure(torch.fft.fft, x)
    assert m.flops == 5 * 1024 * 10 == 51_200
    assert (m.macs, m.uncounted) == (0, ())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("call", "shape", "dtype", "flops"),
    [
        (torch.fft.fft, (3, 8), torch.complex64, 5 * 24 * 3),
        (torch.fft.fft, (3, 8), torch.float32, 5 * 24 * 3 // 2),
        # an inverse is scaled: two multiplies for each complex number, one for a real one
        (torch.fft.ifft, (3, 8), torch.complex64, 5 * 24 * 3 + 2 * 24),
        (torch.fft.rfft, (3, 8), torch.float32, 5 * 24 * 3 // 2),
        (torch.fft.irfft, (3, 5), torch.complex64, 5 * 24 * 3 // 2 + 24),
        (torch.fft.hfft, (3, 5), torch.complex64, 5 * 24 * 3 // 2),
        (torch.fft.ihfft, (3, 8), torch.float32, 5 * 24 * 3 // 2 + 2 * 3 * 5),
        # two dimensions are one transform of all of their points
        (torch.fft.fft2, (3, 4, 8), torch.complex64, 5 * 96 * 5),
        (torch.fft.rfft2, (3, 4, 8), torch.float32, 5 * 96 * 5 // 2),
        (torch.fft.irfft2, (3, 4, 5), torch.complex64, 5 * 96 * 5 // 2 + 96),
        (torch.fft.fftn, (4, 2, 8), torch.complex64, 5 * 64 * 6),
        # sizes that are no powers of two, by the same formula
        (torch.fft.fft, (7, 11), torch.complex64, nominal(77, 11)),
        (torch.fft.rfft, (7, 11), torch.float32, nominal(77, 11, 2.5)),
        (torch.fft.fft2, (5, 7, 11), torch.complex64, nominal(385, 77)),
    ],
)
def test_each_transform_counts_its_points(call, shape, dtype, flops, mode):
    with mode():
        m = measure(call, torch.ones(shape, dtype=dtype))
    assert (m.flops, m.uncounted) == (flops, ())


def test_any_norm_but_none_scales_the_result():
    x = torch.ones(3, 8)
    plain = 5 * 24 * 3 // 2
    assert measure(torch.fft.rfft, x, norm="backward").flops == plain
    for norm in ("ortho", "forward"):
        assert measure(torch.fft.rfft, x, norm=norm).flops == plain + 2 * 3 * 5
    # The other half of a two-sided transform is a copy of the first.
    assert measure(torch.fft.fft, x, norm="ortho").flops == plain + 2 * 3 * 5


def test_one_point_or_none_takes_no_transform():
    assert measure(torch.fft.fft, torch.ones(5, 1, dtype=torch.complex64)).flops == 0
    # oneMKL refuses an empty batch, so its shape alone is asked.
    empty = torch.empty(0, 8, device="meta")
    assert measure(torch.fft.fft, empty.cfloat()).flops == 0
    assert measure(torch.fft.rfft, empty).flops == 0


def test_out_variants_and_the_frequencies():
    x = torch.ones(8, dtype=torch.complex64)
    m = measure(torch.fft.fft, x, out=torch.empty(0, dtype=torch.complex64))
    assert (m.flops, m.uncounted) == (5 * 8 * 3, ())
    m = measure(lambda: (torch.fft.fftfreq(9), torch.fft.rfftfreq(9), torch.fft.fftshift(x)))
    assert (m.flops, m.uncounted) == (0, ())


def test_the_backward_of_a_transform_is_a_transform():
    m = measure(torch.fft.fft, torch.ones(3, 8, dtype=torch.complex64), norm="forward")
    forward = 5 * 24 * 3 + 2 * 24
    assert m.flops == forward
    x = torch.ones(3, 8, dtype=torch.complex64, requires_grad=True)
    with FlopCounter() as counter:
        torch.fft.fft(x, norm="forward").backward(torch.ones(3, 8, dtype=torch.complex64))
    assert counter.flops == 2 * forward
    assert counter.uncounted == ()


def test_a_spectrogram_counts_its_windows_and_their_transforms():
    window = torch.ones(16)
    x = torch.randn(64, generator=torch.Generator().manual_seed(0))
    frames = (64 + 16 - 16) // 4 + 1  # padded by half a window at both ends, hop 4
    for mode in MODES:
        with mode():
            m = measure(torch.stft, x, 16, window=window, return_complex=True)
            assert m.flops == frames * 16 + 5 * frames * 16 * 4 // 2
            assert m.uncounted == ()
            back = measure(torch.istft, m.output, 16, window=window)
        # The inverse transforms scaled, the windows, their squares, and the division.
        work = 5 * frames * 16 * 4 // 2 + frames * 16 + frames * 16 + 16 + 64
        # The frames and the squared windows are added where they overlap.
        work += 2 * frames * 16
        # torch looks for a window that is zero: its smallest value.
        assert back.flops == work + 64 + 63 + 1
        assert back.uncounted == ()


def test_the_logarithm_is_the_same_on_every_machine():
    # 5 N log2 N is so near to an integer here that a float may round to either side.
    from pytest_flopbudget.meters.formulas.fft import transform

    for points in (3, 5, 7, 11, 97, 1000, 4095):
        # floor(5 N log2 N) is the bit length of N^(5N), less one: exact in integers.
        assert transform(points, points) == (points ** (5 * points)).bit_length() - 1
