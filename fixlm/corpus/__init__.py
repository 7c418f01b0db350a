"""Text in, ids out: data sets, words or sentencepiece pieces, and the copy that is kept of them."""
