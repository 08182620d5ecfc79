"""An energy counter for tests."""

import math
import time


class Clock:
    """A watt, all the time."""

    name, device, range_joules = "clock", "clock", math.inf

    def read(self):
        return time.perf_counter()
