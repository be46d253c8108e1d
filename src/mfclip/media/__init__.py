"""Pictures and videos: reading, faces, tracking, transforms, perturbations, blending."""
