"""The benchmarks: Amphibase beside the libraries it is measured against."""
