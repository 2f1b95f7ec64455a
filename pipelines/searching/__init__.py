"""What `pipelines.search` is made of: the cosine of every clip, moments out of these, and their page."""
