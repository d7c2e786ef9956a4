"""The charts of a report, as Vega-Lite specifications: drawn into PNGs, and shown live on the page."""
