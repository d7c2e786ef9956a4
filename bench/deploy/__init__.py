"""The winner taken home: a folder that serves a row over HTTP as it was measured, and what it sustains there."""
