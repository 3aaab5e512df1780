"""What a campaign is (spec, plan, schema) and where it is kept (store, ledger)."""
