"""How far a run is: what it does now, how long it takes, which stages are fresh or failed."""
