"""Where original files come from: resolve a model ref to a listing, fetch a listing into a directory.

One file per provider; a provider's library is imported there and nowhere else. Must not know the
store, the server or the wire.
"""
