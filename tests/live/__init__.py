"""Real servers in processes of their own, and two client libraries."""
