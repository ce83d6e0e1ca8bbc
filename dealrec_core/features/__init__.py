"""What selection methods ask of samples beside influence and effort, one module per source."""
