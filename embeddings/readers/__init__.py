"""Readers of word vectors from outside. `read_vectors` is the entry; each format has a module of its own."""
