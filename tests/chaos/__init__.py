"""What becomes of topics when Redis, processes and clients fail.

The tests run in a short form. ``CHAOS=long`` runs the long one, which takes some ten
minutes, prints what it measures, and holds the promises to their figures.
"""
