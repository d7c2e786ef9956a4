"""Where everything lies, relative to the project's folder (the working folder of every stage)."""

from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")

ARTIFACTS = Path("artifacts")
MODEL = ARTIFACTS / "model"
SENTENCES = ARTIFACTS / "sentences"
SENTENCE_FILES = ("evaluation.parquet", "calibration.parquet")
INPUTS = ARTIFACTS / "inputs"
EVALUATION = INPUTS / "evaluation.npz"
CALIBRATION = INPUTS / "calibration.npz"
TEXTS = INPUTS / "texts.json"
FAST_TOKENIZER = INPUTS / "tokenizer.json"
TOKEN_COUNTS = INPUTS / "token_counts.csv"
ONNX = ARTIFACTS / "onnx"
ENGINES = ARTIFACTS / "engines"
TIMING_CACHE = ARTIFACTS / "timing_cache"
BARRIERS = ARTIFACTS / "barriers"
ROUNDS = ARTIFACTS / "rounds"
COMPILED = ARTIFACTS / "compiled"
"""PyTorch's caches of compiled code, by variant: what was compiled for the closed loop is found again under load."""
SAMPLES = ARTIFACTS / "samples"
RETRY_TOKENS = ARTIFACTS / "retry_tokens"
REQUIRED = ARTIFACTS / "required"
BATCHES = ARTIFACTS / "batches"
SERVED = ARTIFACTS / "served"
BEST = ARTIFACTS / "best"
SERVED_TEXT = ARTIFACTS / "served_text"
SERVED_PARTS = ROUNDS / "serve"
CHECKED = ARTIFACTS / "checked"
USER_INPUTS = ARTIFACTS / "user_inputs.json"
"""The hashes of the user's own model and tables."""
CLONE = ARTIFACTS / "clone"
"""An id of this folder's timings: those of another clone are none of it."""
MACHINE = ARTIFACTS / "machine.json"
"""Kept out of git: which machine this is."""

METRICS = Path("metrics")
ENVIRONMENT = METRICS / "env.json"
PROVENANCE = METRICS / "model.json"
EXPORT = METRICS / "export.json"
CONVERSIONS = METRICS / "convert"
PEAKS = METRICS / "peaks.json"
VARIANT_METRICS = METRICS / "variants"
LENGTHS = METRICS / "lengths.json"

RUNS = Path("runs")

RESULTS = Path("results")
SUMMARY_CSV = RESULTS / "summary.csv"
SERVING_CSV = RESULTS / "serving.csv"
FINDINGS = RESULTS / "findings.json"
SUMMARY_TABLE = RESULTS / "summary_table.md"
PLOTS = RESULTS / "plots"
HARDWARE = RESULTS / "hardware.md"
HARDWARE_PLOT = RESULTS / "hardware.png"
NOTES = Path("notes") / "engineering_observations.md"
