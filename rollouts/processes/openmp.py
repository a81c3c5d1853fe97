"""How OpenMP's threads wait for work. Light to import: it must be set before torch is loaded."""

OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
"""Environment variables that let idle threads spin for some microseconds and then sleep.

Threads that spin for long, while another process needs their core, multiply the time of the work.
Threads that sleep at once must be woken for each of the thousands of operations of an optimizer
step. For a small model that costs a third of the time.
"""
