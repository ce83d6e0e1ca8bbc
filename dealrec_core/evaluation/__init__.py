"""Which recommender is better, and how sure that is: metrics per user, one paired bootstrap, the gate, the proxy."""
