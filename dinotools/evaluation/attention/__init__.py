"""Where the [CLS] token looks, as pictures, films and numbers."""
