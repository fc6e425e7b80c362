"""``dinotools report``: results beside the paper's numbers, and how pre-training went."""
