"""perl-eval: build preference data, train LoRA RLHF policies, judge them, know how far the judge can be trusted."""
