"""Benchmarks of jobrunner beside its peers, run by bin/bench; pytest runs only test_bench.py, which tests the harness."""
