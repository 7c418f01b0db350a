"""The methods that build an output matrix, one file each."""
