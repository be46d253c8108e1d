"""Pictures to predictions: `Predictor`, its records, and the page that shows them."""
