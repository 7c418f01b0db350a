"""Readers of word vectors from outside, one format a file."""
