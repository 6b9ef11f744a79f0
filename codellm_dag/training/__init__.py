"""Training: packed rows, optimizer and schedule, the trainer, checkpoints that resume, the two stages."""
