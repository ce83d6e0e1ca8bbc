"""A language model reads titles, learns them, and shows the gradient of each sample."""
