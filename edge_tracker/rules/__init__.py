"""The tracker's arithmetic on arrays: frames, boxes, crop, pixels, decoding, online template."""
