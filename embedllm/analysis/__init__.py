"""What a vector is made of: the attention of the pooled position, and what its tokens do to it."""
