"""Frames in and out: sources, mp4 files, drawing, the preview window, a whole video tracked."""
