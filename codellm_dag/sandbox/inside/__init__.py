"""The scripts that run inside the sandbox. Standard library only: nothing else is visible there.

`supervisor.py` is process 1 of a cell, `program.py` runs one untrusted program in a forked child,
`lockdown.py` takes its rights away first, `values.py` writes results as text. Only `values.py` is also
imported outside.
"""
