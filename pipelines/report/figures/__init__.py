"""The panels of a report, one module each: `panel(tree)`, None where the campaign lacks it."""
