"""Commands: results on standard output, errors on standard error, no logic of delivery."""
