"""fixlm: LSTM language models whose output layer need not be trained."""

__version__ = "0.1.0"
