"""What learners share: playing melodies, minibatches, gradient accumulation, sums over shards, optimisers."""
