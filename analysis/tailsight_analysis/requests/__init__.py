"""What questions look at: requests, fetched with their spans, accounted for, and described by what they were."""
