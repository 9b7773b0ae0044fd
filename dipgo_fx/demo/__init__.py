"""Small really trained models on the 8x8 digits of scikit-learn, for examples and tests."""
