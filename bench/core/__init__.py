"""The ground floor: parameters, paths, files, errors, progress, and what a run was made of."""
