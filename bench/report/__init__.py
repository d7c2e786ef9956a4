"""Tables, plots and notes, all made from results/summary.csv."""
