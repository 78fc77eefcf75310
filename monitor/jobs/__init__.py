"""The jobs of the monitor: the only place where reading, judging, storing and showing are put in order."""
