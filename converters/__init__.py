"""Checkpoint -> ONNX pair -> OpenVINO IR, and the bundle that holds them. Needs the `convert`
extra.
"""
