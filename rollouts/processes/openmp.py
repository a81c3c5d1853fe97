"""How OpenMP's threads wait for work. Light to import: it has to be in place before torch is."""

OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
"""Environment variables. Threads that spin for long while another process has the core cost several
times the work; threads that sleep at once have to be woken for each of the thousands of operations
of an optimizer step, which for a small model costs a third of its time. So they spin for some
microseconds.
"""
