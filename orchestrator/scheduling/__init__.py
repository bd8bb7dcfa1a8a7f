"""Early stopping: pure decision functions (``asha``) and the door that lets Tune ask them (``scheduler``)."""
