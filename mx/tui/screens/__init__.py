"""The seven screens, and those that ask and tell on top of them."""
