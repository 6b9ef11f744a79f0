"""For all tests: an interrupt is an interrupt, also where the suite was started with SIGINT ignored."""

from __future__ import annotations

import signal

# A shell without job control starts what it puts into the background with SIGINT ignored, as a CI runner may.
# Python then installs no handler, and children inherit that: tests that interrupt would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
