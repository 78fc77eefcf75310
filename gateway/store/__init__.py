"""The contract between gateway and monitor: records, tables, queries. Imports nothing else of the gateway."""
