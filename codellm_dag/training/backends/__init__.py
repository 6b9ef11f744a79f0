"""One file a training framework; `protocol.py` says what each does."""
