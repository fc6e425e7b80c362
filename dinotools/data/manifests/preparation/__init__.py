"""How the publishers' files of each data set get into the layout that the commands read, one module per kind.

Every ``prepare(folder, manifest, seed)`` does what is left to do and says how much that was. Files are renamed, never
copied, and stand in their place whole or not at all.
"""
