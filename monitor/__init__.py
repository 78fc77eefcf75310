"""Gatewatch's monitor: decides from the gateway's samples whether the world has drifted, and raises alarms."""
