"""The monitor's own tables, in the metadata that both processes share."""
