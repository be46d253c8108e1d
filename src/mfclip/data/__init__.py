"""Files on disk to batches: manifests, reading, transforms, samplers, loaders."""
