"""The folder that a device opens: its manifest, files, network geometry and golden cases."""
