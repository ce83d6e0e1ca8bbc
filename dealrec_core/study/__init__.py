"""Which selection is better, on the user's own data: cells, paired comparisons, tables and plots."""
