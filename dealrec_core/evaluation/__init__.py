"""Which recommender is better, and how sure that is: metrics per user, paired comparisons, the gate."""
