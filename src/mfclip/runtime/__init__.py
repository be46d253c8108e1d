"""What the process runs on and with: device, provenance, memory, files written whole, pools."""
