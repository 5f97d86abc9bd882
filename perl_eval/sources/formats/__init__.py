"""The formats that are read, one module for each tool; `perl_eval.sources.recognition` lists them."""
