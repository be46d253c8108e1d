"""The small predictor that the tests of predictions use."""

from predict.conftest import model, pictures, predictor

__all__ = ["model", "pictures", "predictor"]
