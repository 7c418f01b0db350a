"""Perplexity of a trained model, and what else can be asked of one."""
