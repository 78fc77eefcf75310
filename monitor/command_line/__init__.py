"""The larger commands of `monitor`: parsing and printing; the work is in monitor.jobs."""
