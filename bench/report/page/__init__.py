"""results/report.html: the whole report as one file that needs no network."""
