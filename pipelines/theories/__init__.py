"""What each theory predicts for the cells of a campaign, in the shape of what is measured."""
