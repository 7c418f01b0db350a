"""The language model: input embedding, LSTM, output layer."""
