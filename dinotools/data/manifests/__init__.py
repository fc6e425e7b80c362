"""Public data sets: where each comes from, what it holds, and how it gets into the layout that the commands read.

``manifest.read(name)`` reads data_manifests/NAME.toml, ``fetching.run(config)`` brings its files from the first mirrors
that have them, and ``unpacking.unpack_once(file, folder)`` puts what is in one into its place.
"""
