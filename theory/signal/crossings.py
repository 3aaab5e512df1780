"""Where functions tabulated on a common grid change sign."""

import torch
from torch import Tensor


def crossings(values: Tensor, noise: Tensor) -> Tensor:
    """Ends of the intervals of the grid that hold sign changes: (count, n, 2), -1 for none left.

    Of functions (n, grid) with noise of that size, below which a value has no sign; an interval
    then reaches from the last value with a sign to the next.
    """
    sign = values.sign().to(torch.int8).masked_fill_(values.abs() <= noise, 0)
    place = torch.arange(sign.shape[1], dtype=torch.int16)
    last = torch.where(sign != 0, place, -1).cummax(1).values[:, :-1].clamp_min_(0)
    row, high = (sign.gather(1, last.long()) * sign[:, 1:] < 0).nonzero().T
    number = torch.arange(len(row)) - torch.searchsorted(row, row)  # of each among those of its row
    count = int(number.max()) + 1 if len(row) else 0
    found = torch.full((count, len(sign), 2), -1)
    found[number, row] = torch.stack([last[row, high].long(), high + 1], 1)
    return found
