"""Pairs on the device."""

import numpy as np
import torch

from pipeline.models.pairs import Pairs, luma_of
from pipeline.video import pairs


def test_brightness_on_the_device_is_that_of_the_reader_for_every_colour():
    channel = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(channel, channel, channel), axis=-1).reshape(1, len(channel), -1, 3)
    assert np.array_equal(luma_of(torch.from_numpy(colours))[0].numpy(), pairs.luma_of(colours[0]))


def test_read_only_arrays_are_copied_and_no_pair_is_zeros():
    luma, gaps_s = np.full((2, 3, 4), 7, np.uint8), np.array([0.1, 0.0], np.float32)
    for array in (luma, gaps_s):
        array.setflags(write=False)
    made = Pairs.of(luma, gaps_s).to(torch.device("cpu"))
    made.previous_luma[:] = 0
    assert luma.all()
    none = Pairs.none(torch.ones(2, 3, 4, 3, dtype=torch.uint8))
    assert (none.previous_luma.dtype, none.gaps_s.dtype) == (made.previous_luma.dtype, made.gaps_s.dtype)
    assert (none.previous_luma.shape, none.gaps_s.tolist()) == ((2, 3, 4), [0.0, 0.0])
