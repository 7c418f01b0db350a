"""What a run is asked to do: the configuration, its presets, and the command line that describes it."""
