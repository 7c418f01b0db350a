"""The training loop: steps, learning rate, averages, checkpoints as they come due."""
