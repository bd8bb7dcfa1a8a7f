"""Early stopping: rules over a views, which one a spec asks for, Tune's door to them, and a simulator."""
