"""The store of a campaign: what is kept in it, by whom it is held, and what it must hold."""
