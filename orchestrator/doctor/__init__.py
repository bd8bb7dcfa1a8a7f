"""The doctor: check this machine, its servers, its storage and a cluster, and say how to mend what is broken."""
