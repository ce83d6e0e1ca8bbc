"""The log becomes samples: a user's history and the item that came next."""
