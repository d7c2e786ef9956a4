"""Two versions of this project, or of what it measures, timed in the same passes: which rows became slower?"""
