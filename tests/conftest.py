"""For all tests: an interrupt is an interrupt, also where the suite was started with SIGINT ignored; threads
that wait sleep, as in the stages' own processes.
"""

from __future__ import annotations

import os
import signal

# A shell without job control starts what it puts into the background with SIGINT ignored, as a CI runner may.
# Python then installs no handler, and children inherit that: tests that interrupt would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# OpenMP reads it when PyTorch is imported, here and in what tests start. Threads that spin while they wait
# take the time of those they wait for: two test workers on two cores then need twice the CPU time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
