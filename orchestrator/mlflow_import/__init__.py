"""Import runs from MLflow as a sweep."""
