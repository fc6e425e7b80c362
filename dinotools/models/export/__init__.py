"""A backbone in the layouts of other libraries, each re-loaded and compared before it counts as written."""
