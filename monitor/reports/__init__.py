"""Reports for people: Evidently's HTML rendered in a short-lived process, a JSON twin and a timeline of our own.

Rules: the scores, thresholds and alarms are the monitor's; Evidently draws the distributions. This process never
imports Evidently or pandas (seconds to import, hundreds of megabytes).
"""
