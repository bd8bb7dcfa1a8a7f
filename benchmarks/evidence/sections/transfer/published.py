"""Published tables of transfer, each with its provenance."""

TRANSFER_NETWORKS = """\
| made for | FC10(1e-4) | FC10(1e-2) | FC10(1) | FC100-100-10 | FC200-200-10 | AE400-10 | average distortion |
|---|---|---|---|---|---|---|---|
| FC10(1e-4) | 100 | 11.7 | 22.7 | 2 | 3.9 | 2.7 | 0.062 |
| FC10(1e-2) | 87.1 | 100 | 35.2 | 35.9 | 27.3 | 9.8 | 0.1 |
| FC10(1) | 71.9 | 76.2 | 100 | 48.1 | 47 | 34.4 | 0.14 |
| FC100-100-10 | 28.9 | 13.7 | 21.1 | 100 | 6.6 | 2 | 0.058 |
| FC200-200-10 | 38.2 | 14 | 23.8 | 20.3 | 100 | 2.7 | 0.065 |
| AE400-10 | 23.4 | 16 | 24.8 | 9.4 | 6.6 | 100 | 0.086 |
| Gaussian noise, standard deviation 0.1 | 5.0 | 10.1 | 18.3 | 0 | 0 | 0.8 | 0.1 |
| Gaussian noise, standard deviation 0.3 | 15.6 | 11.3 | 22.7 | 5 | 4.3 | 3.1 | 0.3 |"""
"""Szegedy et al. 2014, table 2, quoted at second hand; the columns FC10(1e-2), FC10(1) and FC200 and the row
AE400-10 from memory."""

TRANSFER_HALVES = """\
| made for | FC100(P1) | FC123(P1) | FC100'(P2) |
|---|---|---|---|
| FC100(P1) | 100 | 26.2 | 5.9 |
| FC123(P1) | 6.25 | 100 | 5.1 |
| FC100'(P2) | 8.2 | 8.2 | 100 |
| Gaussian noise, standard deviation 0.06 | 2.2 | 2.6 | 2.4 |
| FC100(P1), amplified to 0.1 | 100 | 98 | 43 |
| FC123(P1), amplified to 0.1 | 96 | 100 | 22 |
| FC100'(P2), amplified to 0.1 | 27 | 50 | 100 |
| Gaussian noise, standard deviation 0.1 | 2.6 | 2.8 | 2.7 |"""
"""Szegedy et al. 2014, table 4: the first row and 98 and 43 quoted at second hand, the others from memory."""
