"""The models: GPT-2 and LLAMA3-like blocks on one skeleton, weights in and out."""
