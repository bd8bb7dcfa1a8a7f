"""Early stopping: schedulers over trial views, the one a spec asks for, and a simulator."""
