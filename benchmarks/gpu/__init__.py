"""What benchmarks/gpu.sh measures: see run.py (the whole), plan.py (the parts) and parts/ (one file each)."""
