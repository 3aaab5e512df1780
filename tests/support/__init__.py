"""What tests share: small campaigns, made-up stores, ways to run and to compare them."""
