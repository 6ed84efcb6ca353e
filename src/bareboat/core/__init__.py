"""The domain: offers, needs, instances, matching, scoring, budget, and the seam to the clouds. Standard library."""
