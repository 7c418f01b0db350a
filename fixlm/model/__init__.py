"""The language model: input embedding, recurrent core, output layer."""
