"""The stages: what each is (registry), what its function is given (protocol), how it runs (entry)."""
