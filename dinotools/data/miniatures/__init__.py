"""Miniatures of data sets, drawn from images that come with libraries: to try a command on, not to measure with."""
