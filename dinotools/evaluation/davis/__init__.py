"""Segmentation of videos from a first mask, without training: DAVIS-2017."""
