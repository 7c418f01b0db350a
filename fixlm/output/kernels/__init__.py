"""The fast arithmetic of the output layers, each with a plain torch reference."""
